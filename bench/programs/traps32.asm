; Traps of 32-bit protected mode and virtual-8086 mode in loops: a Multiboot kernel as traps.asm is one.
;
; nasm -f bin -I bench/programs/ bench/programs/traps32.asm

PAGES   equ 0x00200000          ; the page directory: the first 64 MiB map to themselves
STACK   equ 0x90000
USER    equ 0x80000             ; the stack of CPL 3
GUEST86 equ 0x70000             ; where the 8086 program lies and ends its stack
CODE    equ 8                   ; and data behind it; then those of CPL 3, as SYSEXIT wants it
CODE3   equ 24 | 3
TASK    equ 40

%include "multiboot.inc"
        multiboot test, rounds

        mov edi, PAGES
        mov ecx, 1024
        xor eax, eax
        rep stosd
        mov edi, PAGES
        mov eax, 0x87           ; present, writable, user, large
.large: mov [edi], eax
        add edi, 4
        add eax, 0x400000
        cmp edi, PAGES + 16 * 4
        jne .large

        call serial
        mov eax, 0x610          ; PSE, SSE
        mov cr4, eax
        mov eax, PAGES
        mov cr3, eax
        mov eax, 0x80010011
        mov cr0, eax
        lgdt [gdtr]
        jmp CODE:.here
.here:  mov ax, CODE + 8
        mov ds, ax
        mov es, ax
        mov ss, ax
        xor eax, eax
        mov fs, ax
        mov gs, ax
        mov al, 0xff
        out 0x21, al
        out 0xa1, al

        mov eax, tss
        mov [gdt + TASK + 2], ax
        shr eax, 16
        mov [gdt + TASK + 4], al
        mov ax, TASK
        ltr ax
        mov ecx, 0x174          ; SYSENTER's CS, ESP and EIP
        mov eax, CODE
        xor edx, edx
        wrmsr
        inc ecx
        mov eax, STACK - 256
        wrmsr
        inc ecx
        mov eax, entered
        wrmsr

        mov esi, gates
.gate:  movzx edi, byte [esi]
        mov eax, [esi + 1]
        add esi, 5
        mov [idt + edi * 8], ax
        mov dword [idt + edi * 8 + 2], 0xee000000 | CODE
        shr eax, 16
        mov [idt + edi * 8 + 6], ax
        cmp esi, gates.end
        jne .gate
        lidt [idtr]

        xor ebx, ebx
        mov esi, begin
        call report
        mov ecx, [rounds]
        mov eax, [test]
        jmp [tests + eax * 4]

finish: mov esp, STACK
        push ebx
        mov esi, end
        call report
        pop ebx
        jmp told

; To EAX, at CPL 3.
outward:
        mov esi, USER
        mov dx, CODE3 + 8
        mov ds, dx
        mov es, dx
        push CODE3 + 8
        push esi
        push 2
        push CODE3
        push eax
        iretd

; -- Each takes ECX rounds, and leaves its result in EBX. INT 42h ends what runs at CPL 3.

; An interrupt at the same level, and one from CPL 3.
ints:   int 0x40
        dec ecx
        jnz ints
        jmp finish

calls:  mov eax, .user
        jmp outward
.user:  int 0x40
        dec ecx
        jnz .user
        int 0x42

counted:
        inc ebx
        iretd

; SYSENTER and SYSEXIT.
sysenters:
        mov eax, .user
        jmp outward
.user:  mov ebp, ecx
        mov ecx, esp
        mov edx, .back
        sysenter
.back:  mov ecx, ebp
        dec ecx
        jnz .user
        int 0x42

entered:
        inc ebx
        sysexit

; Divisions by nought.
divisions:
        xor esi, esi
.next:  div esi
        dec ecx
        jnz .next
        jmp finish

divided:
        inc ebx
        add dword [esp], 2
        iretd

; Pages that are not there, from CPL 3.
absences:
        mov eax, .user
        jmp outward
.user:  mov al, [0x8000000]
        dec ecx
        jnz .user
        int 0x42

absent: inc ebx
        add dword [esp + 4], 5
        add esp, 4
        iretd

; A program of the 8086 that its monitor lets turn interrupts off and on, and push and pop flags.
v86:    mov edi, GUEST86
        mov esi, program
        mov edx, ecx
        mov ecx, program.end - program
        rep movsb
        mov ecx, edx
        xor eax, eax
        push eax
        push eax
        push eax
        push eax
        push GUEST86 >> 4
        push 0xf000
        push 0x20002            ; VM, IOPL 0
        push GUEST86 >> 4
        push 0
        iretd

        bits 16
program:
        cli
        pushf
        popf
        sti
        dec ecx
        jnz program
        hlt
.end:   bits 32

; #GP: what the 8086 program may not do by itself.
forbidden:
        push eax
        push esi
        push edi
        movzx esi, word [esp + 20]      ; CS
        shl esi, 4
        add esi, [esp + 16]             ; IP
        movzx edi, word [esp + 32]      ; SS
        shl edi, 4
        add edi, [esp + 28]             ; SP
        mov al, [ss:esi]
        inc dword [esp + 16]
        inc ebx
        cmp al, 0xfa
        je .off
        cmp al, 0xfb
        je .on
        cmp al, 0x9c
        je .push
        cmp al, 0x9d
        je .pop
        mov ax, CODE + 8
        mov ds, ax
        mov es, ax
        jmp finish
.off:   mov byte [ss:virtual], 0
        jmp .done
.on:    mov byte [ss:virtual], 2
        jmp .done
.push:  mov ax, [esp + 24]
        and ah, 0xfd
        or ah, [ss:virtual]
        sub word [esp + 28], 2
        mov [ss:edi - 2], ax
        jmp .done
.pop:   mov ax, [ss:edi]
        mov [ss:virtual], ah
        and byte [ss:virtual], 2
        and ax, 0xcd5
        mov [esp + 24], ax
        add word [esp + 28], 2
.done:  pop edi
        pop esi
        pop eax
        add esp, 4
        iretd

%include "lines.inc"
%include "bare.inc"
        align 8
gdt:    dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff, 0x0000890000000067
gdtr:   dw 47
        dd gdt
idtr:   dw 0x43 * 8 - 1
        dd idt
test:   dd 0
rounds: dd 0
virtual: db 0
gates:  db 0
        dd divided
        db 13
        dd forbidden
        db 14
        dd absent
        db 0x40
        dd counted
        db 0x42
        dd finish
.end:
        align 4
tests:  dd ints, calls, sysenters, divisions, absences, v86
tss:    dd 0, STACK, CODE + 8
        times 22 dd 0
        dw 0, 104
idt:    times 0x43 * 8 db 0
