; Trapping instructions in loops: a Multiboot kernel whose command line ends with kiln=NAME,TEST,ROUNDS. TEST is a number of the
; table at the end; the result is a sum over what was read, or a count of what was as it should be, the same on every machine.
;
; nasm -f bin -I bench/programs/ bench/programs/traps.asm

TABLES  equ 0x00200000          ; PML4, PDPT, 4 PDs: the first 4 GiB map to themselves
BUFFER  equ 0x00400000
APIC    equ 0xfee00000
HPET    equ 0xfed00000
STACK   equ 0x90000
CODE    equ 8

%include "multiboot.inc"
        multiboot test, rounds

        mov edi, TABLES
        mov ecx, 6 * 1024
        xor eax, eax
        rep stosd
        mov dword [TABLES], TABLES + 0x1003
        mov ecx, 4
        mov edi, TABLES + 0x1000
        mov eax, TABLES + 0x2003
.pd:    mov [edi], eax
        add edi, 8
        add eax, 0x1000
        loop .pd
        mov edi, TABLES + 0x2000
        mov eax, 0x183          ; present, writable, large, global
.large: mov [edi], eax
        add edi, 8
        add eax, 0x200000
        cmp edi, TABLES + 0x6000
        jne .large

        call serial
        mov eax, 0x6a0          ; PAE, PGE, SSE
        mov cr4, eax
        mov eax, TABLES
        mov cr3, eax
        mov ecx, 0xc0000080     ; EFER: SCE, LME
        rdmsr
        or eax, 0x101
        wrmsr
        mov eax, 0x80000011
        mov cr0, eax
        lgdt [gdtr]
        jmp CODE:wide

%include "bare.inc"
        align 8
gdt:    dq 0, 0x00209a0000000000, 0x0000920000000000
gdtr:   dw 23
        dd gdt
idtr:   dw 0x42 * 16 - 1
        dq idt
test:   dd 0
rounds: dd 0

        bits 64
wide:   mov ax, 16
        mov ds, ax
        mov es, ax
        mov ss, ax
        ; Of interrupts only 0x40 is expected; the 8259s are silent, the local APIC is on.
        mov al, 0xff
        out 0x21, al
        out 0xa1, al
        mov eax, interrupt
        mov edi, idt + 0x40 * 16
        call gate
        mov eax, counted
        mov edi, idt + 0x41 * 16
        call gate
        mov eax, undefined
        mov edi, idt + 6 * 16
        call gate
        mov eax, absent
        mov edi, idt + 14 * 16
        call gate
        lidt [idtr]
        mov r8d, APIC
        mov dword [r8 + 0xf0], 0x1ff

        mov eax, [test]
        mov r12, [tests + rax * 8]
        mov r13d, [rounds]
        xor ebx, ebx
        mov esi, begin
        call report
        call r12
        push rbx
        mov esi, end
        call report
        pop rbx
        jmp told

; -- Each takes R13 rounds, and leaves its result in RBX.

; Ports whose registers do not change by themselves.
ports:  mov ecx, r13d
        mov edx, 0xa1
.next:  out 0x80, al
        in al, 0x21
        movzx eax, al
        add rbx, rax
        in al, dx
        movzx eax, al
        add rbx, rax
        in al, 0x64
        and eax, 1              ; nothing in the keyboard's buffer
        add rbx, rax
        dec ecx
        jnz .next
        ret

; Leaves 0 and 7: counts answers that are those of the first round.
cpuids: mov edi, r13d
        xor eax, eax
        cpuid
        mov r10d, ebx
        mov eax, 7
        xor ecx, ecx
        cpuid
        mov r11d, ebx
        xor r9d, r9d
.next:  xor eax, eax
        cpuid
        cmp ebx, r10d
        jne .other
        inc r9
.other: mov eax, 7
        xor ecx, ecx
        cpuid
        cmp ebx, r11d
        jne .last
        inc r9
.last:  dec edi
        jnz .next
        mov rbx, r9
        ret

; KERNEL_GS_BASE, LSTAR and FMASK, written and read.
msrs:   mov edi, r13d
.next:  mov ecx, 0xc0000102
        mov eax, edi
        xor edx, edx
        wrmsr
        rdmsr
        add rbx, rax
        mov ecx, 0xc0000082
        rdmsr
        add rbx, rax
        mov ecx, 0xc0000084
        mov eax, 0x300
        xor edx, edx
        wrmsr
        rdmsr
        add rbx, rax
        dec edi
        jnz .next
        ret

; Task priority written and read, end of interrupt.
apics:  mov ecx, r13d
        mov r8d, APIC
.next:  mov eax, ecx
        and eax, 0xf0
        mov [r8 + 0x80], eax
        mov eax, [r8 + 0x80]
        add rbx, rax
        mov dword [r8 + 0xb0], 0
        dec ecx
        jnz .next
        mov dword [r8 + 0x80], 0
        ret

; The main counter: counts readings that are not below the one before.
hpets:  mov r9d, HPET
        bts dword [r9 + 0x10], 0
        mov ecx, r13d
        mov rdi, [r9 + 0xf0]
.next:  mov rax, [r9 + 0xf0]
        cmp rax, rdi
        jb .back
        inc rbx
.back:  mov rdi, rax
        dec ecx
        jnz .next
        ret

; The ACPI timer, of 24 bits or 32: the same.
pmtimers:
        mov edx, 0xcf8
        mov eax, 0x8000f840     ; the LPC bridge's PMBASE
        out dx, eax
        mov edx, 0xcfc
        in eax, dx
        and eax, 0xff80
        lea edx, [rax + 8]
        in eax, dx
        mov edi, eax
        mov ecx, r13d
.next:  in eax, dx
        mov r10d, eax
        sub r10d, edi
        test r10d, 0x800000
        jnz .back
        inc rbx
.back:  mov edi, eax
        dec ecx
        jnz .next
        ret

; Lines of 63 letters over the serial port, each byte behind a look at the line status.
uarts:  mov ecx, r13d
        xor edi, edi
.next:  mov edx, COM1 + 5
.wait:  in al, dx
        test al, 0x20
        jz .wait
        lea eax, [rdi + 'A']
        inc edi
        cmp edi, 26
        cmove edi, ebx
        test ecx, 63
        jnz .letter
        mov al, 10
.letter:
        mov edx, COM1
        out dx, al
        dec ecx
        jnz .next
        mov al, 10
        out dx, al
        ret

; VGA memory as planes (as in mode 12h).
planes: mov esi, registers
.next:  movzx edx, word [rsi]
        mov ax, [rsi + 2]
        add esi, 4
        out dx, ax
        cmp esi, registers.end
        jne .next
        mov edi, 0xa0000        ; black
        mov ecx, 0x10000
        xor eax, eax
        rep stosb
        mov edx, 0x3c4
        ret
registers:
        dw 0x3c4, 0x0f02, 0x3c4, 0x0604         ; all planes, no chain
        dw 0x3ce, 0x0000, 0x3ce, 0x0001, 0x3ce, 0x0003, 0x3ce, 0x0005, 0x3ce, 0x0506, 0x3ce, 0x0f07, 0x3ce, 0xff08
.end:

; Fills a screen, a colour's plane at a time, and sums up a column of it.
vgas:   call planes
.round: mov r9d, 0x0102
.plane: mov eax, r9d
        out dx, ax
        mov edi, 0xa0000
        mov ecx, 38400
        mov eax, r13d
        rep stosb
        rol r9w, 8              ; index 2, the next plane
        shl r9b, 1
        rol r9w, 8
        cmp r9d, 0x1002
        jne .plane
        dec r13d
        jnz .round
        jmp column

; The same by loops of MOV.
vgaloops:
        call planes
.round: mov r9d, 0x0102
.plane: mov eax, r9d
        out dx, ax
        mov edi, 0xa0000
        mov ecx, 38400
        mov eax, r13d
.byte:  mov [rdi], al
        inc rdi
        dec ecx
        jnz .byte
        rol r9w, 8
        shl r9b, 1
        rol r9w, 8
        cmp r9d, 0x1002
        jne .plane
        dec r13d
        jnz .round
        jmp column

; Points: the bit mask, a read that latches, a write.
vgapoints:
        call planes
        mov edx, 0x3ce
.round: mov edi, 0xa0000
        mov ecx, 8192
.point: mov eax, 0x8008
        out dx, ax
        mov al, [rdi]
        mov [rdi], cl
        mov eax, 0x0108
        out dx, ax
        mov al, [rdi]
        mov [rdi], ch
        inc edi
        dec ecx
        jnz .point
        dec r13d
        jnz .round
        jmp column

column: mov esi, 0xa0000
        mov ecx, 480
.add:   movzx eax, byte [rsi]
        add rbx, rax
        rol rbx, 1
        add rsi, 79
        loop .add
        ret

; Sectors of the first IDE disk by READ SECTORS, 128 a command and 512 bytes a wait: R13 commands. R12: how.
ides:   mov r12d, strings
        jmp disk
ideloops:
        mov r12d, looped
disk:   xor r14d, r14d          ; sector
.command:
        mov al, 128
        mov edx, 0x1f2
        out dx, al
        mov eax, r14d
        inc edx
        out dx, al
        shr eax, 8
        inc edx
        out dx, al
        shr eax, 8
        inc edx
        out dx, al
        mov al, 0xe0
        inc edx
        out dx, al
        mov al, 0x20
        inc edx
        out dx, al
        mov r15d, 128
.sector:
        mov edx, 0x1f7
.wait:  in al, dx
        and al, 0x88
        cmp al, 8
        jne .wait
        mov edi, BUFFER
        mov edx, 0x1f0
        mov ecx, 256
        call r12
        mov rax, [BUFFER + 8]
        add rbx, rax
        rol rbx, 1
        dec r15d
        jnz .sector
        add r14d, 128
        and r14d, 0x1ffff       ; the disk has 64 MiB
        dec r13d
        jnz .command
        ret
strings:
        rep insw
        ret
looped: in ax, dx
        stosw
        loop looped
        ret

; Interrupts to itself by the interrupt command register.
ipis:   mov ecx, r13d
        mov r8d, APIC
        sti
.next:  mov dword [r8 + 0x310], 0
        mov dword [r8 + 0x300], 0x44040
        dec ecx
        jnz .next
        mov ecx, 100000         ; the last may be on its way
.late:  cmp ebx, r13d
        je .all
        pause
        loop .late
.all:   cli
        ret

; Its timer, as soon as possible again and again.
timers: mov r8d, APIC
        mov dword [r8 + 0x3e0], 0xb     ; as fast as the bus
        mov dword [r8 + 0x320], 0x40    ; one shot
.next:  mov dword [r8 + 0x380], 1
        sti
        hlt
        cli
        cmp ebx, r13d
        jb .next
        mov dword [r8 + 0x320], 0x10040
        ret

; Control and debug registers: written with what they have, and TS as a kernel does that keeps the
; x87 registers for whom they belong to.
controls:
        mov ecx, r13d
        mov rax, cr0
        mov r9, rax
        bts rax, 3
        mov r11, rax
        mov rax, cr4
        mov r10, rax
.next:  mov cr0, r11
        clts
        mov cr0, r9
        mov cr4, r10
        lmsw r9w
        mov dr0, rcx
        mov rax, dr0
        add rbx, rax
        dec ecx
        jnz .next
        ret

; A translation is flushed, and wanted again.
flushes:
        mov ecx, r13d
        mov r9d, BUFFER
        mov [r9], r9
.next:  invlpg [r9]
        add rbx, [r9]
        dec ecx
        jnz .next
        ret

; A sprite drawn by XOR, a byte exchanged, strings of one, a register tested and changed.
vgaops: call planes
        mov edx, 0x3ce
.round: mov edi, 0xa0000
        mov ecx, 8192
.point: xor [rdi], cl
        mov al, ch
        xchg [rdi], al
        add rbx, rax
        test byte [rdi], 3
        mov esi, edi
        lodsb
        stosb
        and byte [rdi], 0x7f
        dec ecx
        jnz .point
        dec r13d
        jnz .round
        jmp column

ints:   mov ecx, r13d
.next:  int 0x41
        dec ecx
        jnz .next
        ret

; An undefined opcode, and a page that is not there.
faults: mov ecx, r13d
        mov r9, 1 << 32
.next:  ud2
        mov al, [r9]
        dec ecx
        jnz .next
        ret

; The gate at EDI leads to EAX.
gate:   mov [rdi], ax
        mov word [rdi + 2], CODE
        mov word [rdi + 4], 0x8e00
        shr eax, 16
        mov [rdi + 6], ax
        mov qword [rdi + 8], 0
        ret

interrupt:
        mov dword [r8 + 0xb0], 0
counted:
        inc ebx
        iretq
undefined:
        inc ebx
        add qword [rsp], 2
        iretq
absent: inc ebx
        add rsp, 8
        add qword [rsp], 3      ; the MOV
        iretq

%include "lines.inc"
        align 8
tests:  dq ports, cpuids, msrs, apics, hpets, pmtimers, uarts, vgas, vgaloops, vgapoints, ides, ideloops, ipis, timers
        dq controls, flushes, ints, faults, vgaops
idt:    times 0x42 * 16 db 0
