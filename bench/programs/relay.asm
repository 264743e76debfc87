; Interrupts of kiln's test function as fast as its generator makes them, each counted: a Multiboot kernel whose command line ends with
; kiln=NAME,RATE,NUMBER (a second, how many). By message, vector 0x40, none while the one before is pending; the result is how many came.
;
; nasm -f bin -I bench/programs/ bench/programs/relay.asm -o relay.bin
; kiln -kernel relay.bin -append kiln=msi,100000,1000000 -device kiln-irqtest,id=t -serial stdio -display none

STACK   equ 0x90000
CODE    equ 8
APIC    equ 0xfee00000
CONFIG  equ 0xcf8

%include "multiboot.inc"
        multiboot rate, count
        call serial
        mov al, 0xff
        out 0x21, al
        out 0xa1, al
        lgdt [gdtr]
        jmp CODE:.here
.here:  mov ax, CODE + 8
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov eax, arrived
        mov [idt + 0x40 * 8], ax
        mov dword [idt + 0x40 * 8 + 2], 0x8e000000 | CODE
        shr eax, 16
        mov [idt + 0x40 * 8 + 6], ax
        lidt [idtr]
        mov dword [APIC + 0xf0], 0x1ff

        ; The function on bus 0 whose first register is KILN's.
        mov ebp, 0x80000000
.next:  mov eax, ebp
        call read
        cmp eax, [identity]
        je .found
        add ebp, 0x800
        cmp ebp, 0x80010000
        jne .next
        mov ebx, 0xdead
        jmp .over
.found: lea eax, [ebp + 4]
        mov ebx, 6              ; memory, bus master
        call write
        lea eax, [ebp + 0x10]
        call read
        and eax, ~15
        mov edi, eax
        lea eax, [ebp + 0x34]
        call read
        movzx ecx, al
.capability:
        lea eax, [ebp + ecx]
        call read
        cmp al, 5
        je .msi
        movzx ecx, ah
        jmp .capability
.msi:   mov edx, eax
        lea eax, [ebp + ecx + 4]
        mov ebx, 0xfee00000
        call write
        lea eax, [ebp + ecx + 8]
        xor ebx, ebx
        test edx, 1 << 23       ; 64 bits
        jz .data
        call write
        lea eax, [ebp + ecx + 12]
.data:  mov ebx, 0x40
        call write
        lea eax, [ebp + ecx]
        mov ebx, edx
        or ebx, 1 << 16
        call write

        mov dword [edi + 0x08], 1       ; MSI
        mov eax, [rate]
        mov [edi + 0x40], eax
        mov eax, [count]
        mov [edi + 0x44], eax
        mov dword [edi + 0x48], 0
        mov dword [edi + 0x4c], 1
        mov esi, begin
        call report
        xor ebx, ebx
        mov dword [edi + 0x50], 5       ; runs, none that is pending
        sti
.wait:  pause                   ; asleep, the host would wake it 20,000 times a second
        cmp ebx, [count]
        jb .wait
        cli
        push ebx
        mov esi, end
        call report
        pop ebx
.over:  jmp told

arrived:
        push eax
        mov dword [edi + 0x14], 0
        inc ebx
        mov dword [APIC + 0xb0], 0
        pop eax
        iretd

; PCI configuration space at EAX.
read:   mov dx, CONFIG
        out dx, eax
        mov dx, CONFIG + 4
        in eax, dx
        ret
write:  push edx
        mov dx, CONFIG
        out dx, eax
        mov dx, CONFIG + 4
        mov eax, ebx
        out dx, eax
        pop edx
        ret

%include "lines.inc"
%include "bare.inc"
        align 8
gdt:    dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:   dw 23
        dd gdt
idtr:   dw 0x41 * 8 - 1
        dd idt
rate:   dd 0
count:  dd 0
identity: dd 0x49541234
idt:    times 0x41 * 8 db 0
