; Moves to CR3 without a kernel around them: a Multiboot kernel that goes round a number of address spaces and touches 64 pages in
; each. All spaces have the same linear addresses and frames of their own; what is the kernel's is mapped by global large pages.
; The command line ends with kiln=NAME,SPACES,ROUNDS,PCID: PCID 1 keeps translations by process-context identifiers where CPUID
; offers them. Every page counts its touches; the result is their sum, or "changed" when one page has another count than it should.
;
; nasm -f bin -I bench/programs/ bench/programs/switches.asm

PAGES   equ 64
WINDOW  equ 0x40000000          ; linear address of the pages
TABLES  equ 0x00200000          ; PML4 with the boot's identity map
FIRST   equ 0x01000000          ; physical: for each space PML4, PDPT, PD, PT, then its pages
SPACE   equ (4 + PAGES) * 4096
STACK   equ 0x90000

%include "multiboot.inc"
        multiboot spaces, rounds
        call number
        mov [wanted], eax

        ; Everything is mapped to itself by global pages of 2 MiB: the first GiB.
        mov edi, TABLES
        mov ecx, 3 * 1024
        xor eax, eax
        rep stosd
        mov dword [TABLES], TABLES + 0x1003
        mov dword [TABLES + 0x1000], TABLES + 0x2003
        mov edi, TABLES + 0x2000
        mov eax, 0x183          ; present, writable, large, global
.large: mov [edi], eax
        add edi, 8
        add eax, 0x200000
        cmp edi, TABLES + 0x3000
        jne .large

        call serial
        mov eax, 1
        cpuid
        mov [features], ecx
        mov eax, 0xa0           ; PAE, PGE
        mov cr4, eax
        mov eax, TABLES
        mov cr3, eax
        mov ecx, 0xc0000080     ; EFER.LME
        rdmsr
        or eax, 0x100
        wrmsr
        mov eax, 0x80000011
        mov cr0, eax
        lgdt [gdtr]
        jmp 8:wide

%include "bare.inc"
        align 8
gdt:    dq 0, 0x00209a0000000000, 0x0000920000000000
gdtr:   dw 23
        dd gdt
spaces:   dd 0
rounds:   dd 0
wanted:   dd 0
features:  dd 0

        bits 64
wide:   mov ax, 16
        mov ds, ax
        mov es, ax
        mov ss, ax

        ; The spaces' tables, and pages of zeros.
        mov edi, FIRST
        mov ecx, [spaces]
        imul ecx, ecx, SPACE / 8
        xor eax, eax
        rep stosq
        mov ebx, FIRST
        mov ecx, [spaces]
.space: lea eax, [ebx + 0x1003]
        mov [rbx], rax                          ; PML4 -> PDPT
        mov dword [rbx + 0x1000], TABLES + 0x2003       ; the kernel's GiB
        lea eax, [ebx + 0x2003]
        mov [rbx + 0x1000 + WINDOW / 0x40000000 * 8], rax
        lea eax, [ebx + 0x3003]
        mov [rbx + 0x2000], rax
        lea edi, [ebx + 0x3000]
        lea eax, [ebx + 0x4003]
        mov edx, PAGES
.page:  mov [rdi], rax
        add rdi, 8
        add rax, 0x1000
        dec edx
        jnz .page
        add ebx, SPACE
        dec ecx
        jnz .space

        ; R8: what is added to the address of a space's PML4 for CR3, R9: how much more for each next space.
        xor r8d, r8d
        xor r9d, r9d
        cmp dword [wanted], 0
        je .ready
        bt dword [features], 17                 ; PCID
        jnc .ready
        mov rax, cr4
        bts rax, 17
        mov cr4, rax
        mov r8, 0x8000000000000001              ; keep what is known; identifiers from 1
        mov r9d, 1
.ready: mov r15d, [spaces]
        mov r14d, [rounds]
        mov esi, begin
        call report
        add r9, SPACE

.round: lea rbx, [r8 + FIRST]
        mov ecx, r15d
.switch:
        mov cr3, rbx
        mov edi, WINDOW
        mov edx, PAGES
.touch: inc qword [rdi]
        add rdi, 4096 + 64                      ; other lines of the cache in other pages
        dec edx
        jnz .touch
        add rbx, r9
        dec ecx
        jnz .switch
        dec r14d
        jnz .round

        mov esi, end
        call report
        mov eax, FIRST + 0x4000
        xor ebx, ebx                            ; sum
        mov ecx, r15d
.sum:   mov rdi, rax
        mov edx, PAGES
.add:   mov r10, [rdi]
        add rbx, r10
        cmp r10d, [rounds]
        je .same
        bts rbx, 63
.same:  add rdi, 4096 + 64
        dec edx
        jnz .add
        add rax, SPACE
        dec ecx
        jnz .sum

        mov esi, changed
        bt rbx, 63
        jc .wrong
        jmp told
.wrong: call report
        jmp stop
changed: db 'result changed', 0

%include "lines.inc"
