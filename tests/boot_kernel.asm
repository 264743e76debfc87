; A kernel for tests/test_kernels.cpp: says on the debug console how it was started and what it was told, and ends the
; run with code 7 (3 << 1 | 1). KIND chooses its headers:
;   1 Multiboot, flat    2 Multiboot, ELF32    3 Multiboot, ELF64    4 Multiboot2, ELF32    5 Multiboot2, ELF64, moved
;   6 Multiboot2, flat   7 PVH, ELF64          8 plain ELF32         9 plain ELF64
; GRAPHICS asks for a mode of 800x600x32.

%define MB1 (KIND >= 1 && KIND <= 3)
%define MB2 (KIND >= 4 && KIND <= 6)
%define FLAT (KIND == 1 || KIND == 6)
%define ELF64 (KIND == 3 || KIND == 5 || KIND == 7 || KIND == 9)
%ifndef GRAPHICS
%define GRAPHICS 0
%endif

CONSOLE equ 0xe9
BASE    equ 0x200000
LINEAR  equ 0xc0000000          ; ELF kernels: the distance between linear and physical addresses

bits 32
org BASE

image:
%if !FLAT
        db 0x7f, 'ELF', 1 + ELF64, 1, 1, 0
        times 8 db 0
        dw 2, 3 + 59 * ELF64    ; executable; 386 or x86-64
        dd 1
%if ELF64
        dq start + LINEAR, segments - image, sections - image
        dd 0
        dw 64, 56, 2, 64, 3, 2
segments:
        dd 1, 7
        dq 0, BASE + LINEAR, BASE, end - image, bss_end - image, 4096
        dd 4, 4
        dq note - image, 0, 0, note_end - note, note_end - note, 4
%else
        dd start + LINEAR, segments - image, sections - image, 0
        dw 52, 32, 2, 40, 3, 2
segments:
        dd 1, 0, BASE + LINEAR, BASE, end - image, bss_end - image, 7, 4096
        dd 4, note - image, 0, 0, note_end - note, note_end - note, 4, 4
%endif
%endif

        align 8
%if MB1
HEADER_FLAGS equ 3 | GRAPHICS * 4 | FLAT << 16
header: dd 0x1badb002, HEADER_FLAGS, -(0x1badb002 + HEADER_FLAGS)
        dd header, BASE, end, bss_end, start
        dd 0, 800, 600, 32
%elif MB2
header: dd 0xe85250d6, 0, header_end - header, -(0xe85250d6 + header_end - header)
        dw 1, 0                 ; information request
        dd 16, 4, 6
%if FLAT
        dw 2, 0
        dd 24, header, BASE, end, bss_end
        dw 3, 0
        dd 12, start, 0
%endif
%if GRAPHICS
        dw 5, 0
        dd 20, 800, 600, 32, 0
%endif
%if KIND == 5
        dw 10, 0                ; relocatable: above 16 MiB, as low as possible
        dd 24, 16 << 20, 0x7fffffff, 0x10000, 1
%endif
        dw 4711, 1              ; something optional
        dd 8
        dw 0, 0
        dd 8
header_end:
%endif

        align 4
note:
%if KIND == 7
        dd 4, 4, 18
        db 'Xen', 0
        dd start
%endif
note_end:

; Position-independent: esi, edi and ebp belong to the reporters, ebx to `here`.
start:
%if KIND == 9
bits 64
        mov esp, stack
        mov ecx, eax
        mov rdx, cr0
        bt edx, 31
        jnc hang64
        mov edi, ebx
        mov ebp, ebx
        lea rdx, [rel in32]
        push 8
        push rdx
        retfq
hang64: hlt
        jmp hang64
bits 32
in32:
        mov edx, cr0
        and edx, 0x7fffffff
        mov cr0, edx            ; paging, and with it long mode, goes off
        mov ebx, ebp
        mov eax, 'long'
%endif
        mov esp, 0x7000
        mov ebp, ebx            ; the information
        call .here
.here:
        pop ebx
        sub ebx, .here - image
        mov edi, eax
%define AT(x) ebx + (x) - image
        lea esi, [AT(text_eax)]
        call print_field
        cmp edi, 0x2badb002
        je multiboot1
        cmp edi, 0x36d76289
        je multiboot2
        cmp dword [ebp], 0x336ec578
        je pvh
        jmp done

multiboot1:
        mov edi, [ebp]
        lea esi, [AT(text_flags)]
        call print_field
        mov edi, [ebp + 4]
        lea esi, [AT(text_lower)]
        call print_field
        mov edi, [ebp + 8]
        lea esi, [AT(text_upper)]
        call print_field
        mov esi, [ebp + 16]
        call print_line
        mov esi, [ebp + 64]
        call print_line
        mov ecx, [ebp + 20]
        mov edx, [ebp + 24]
        jecxz .no_modules
.module:
        mov esi, [edx + 8]
        call print_line
        mov esi, [edx]
        push dword [edx + 4]
        sub [esp], esi
        pop edi                 ; its length
        push esi
        lea esi, [AT(text_length)]
        call print_field
        pop esi
        call print_line         ; modules of the test end with a zero
        add edx, 16
        loop .module
.no_modules:
        mov ecx, [ebp + 44]
        mov edx, [ebp + 48]
.map:
        lea esi, [edx + 4]
        cmp dword [edx], 20
        jne hang32
        call print_range
        add edx, 24
        sub ecx, 24
        jnz .map
        mov edi, [ebp + 28]
        lea esi, [AT(text_sections)]
        test dword [ebp], 1 << 5
        jz .no_sections
        call print_field
        mov edx, [ebp + 36]
        mov eax, [ebp + 32]     ; the last one is the strings', placed by the loader
        lea edx, [edx + eax * 2]
        cmp eax, 64
        je .section64
        mov esi, [edx + 12]
        jmp .have_section
.section64:
        mov esi, [edx + 16]
.have_section:
        inc esi
        call print_line
.no_sections:
        test dword [ebp], 1 << 12
        jz done
        lea edx, [ebp + 88]
        call print_framebuffer
        jmp done

print_framebuffer:
        push edi
        mov edi, [edx + 12]
        lea esi, [AT(text_width)]
        call print_field
        movzx edi, byte [edx + 20]
        lea esi, [AT(text_depth)]
        call print_field
        movzx edi, byte [edx + 21]
        lea esi, [AT(text_kind)]
        call print_field
        pop edi
        ret

multiboot2:
        lea edx, [ebp + 8]
.tag:
        mov eax, [edx]
        mov edi, eax
        lea esi, [AT(text_tag)]
        call print_field
        test eax, eax
        jz .end
        lea esi, [edx + 8]
        cmp eax, 2
        jbe .string
        cmp eax, 3
        je .module
        cmp eax, 6
        je .map
        cmp eax, 8
        je .framebuffer
        cmp eax, 14
        je .rsdp
        cmp eax, 15
        je .rsdp
        cmp eax, 21
        je .base
        jmp .next
.module:
        mov esi, [edx + 8]
        call print_line
        lea esi, [edx + 16]
.string:
        call print_line
        jmp .next
.map:
        lea esi, [edx + 16]
        mov ecx, [edx + 4]
        sub ecx, 16
.range:
        call print_range
        add esi, 24
        sub ecx, 24
        jnz .range
        jmp .next
.framebuffer:
        push edx
        add edx, 8
        call print_framebuffer
        pop edx
        jmp .next
.rsdp:
        cmp dword [edx + 8], 'RSD '
        jne hang32
        jmp .next
.base:
        mov edi, [edx + 8]
        lea esi, [AT(text_base)]
        call print_field
        lea edi, [AT(image)]
        call print_field
.next:
        mov eax, [edx + 4]
        add eax, 7
        and eax, ~7
        add edx, eax
        jmp .tag
.end:
        add edx, 8
        sub edx, ebp
        cmp edx, [ebp]          ; the whole size
        jne hang32
        jmp done

pvh:
        mov esi, [ebp + 24]
        call print_line
        mov ecx, [ebp + 12]
        mov edx, [ebp + 16]
        jecxz .no_modules
.module:
        mov esi, [edx]
        call print_line
        mov esi, [edx + 16]
        call print_line
        add edx, 32
        loop .module
.no_modules:
        mov esi, [ebp + 32]
        cmp dword [esi], 'RSD '
        jne hang32
        mov ecx, [ebp + 48]
        mov esi, [ebp + 40]
.range:
        call print_range
        add esi, 24
        loop .range

done:
        mov eax, [AT(bss)]      ; zeroed by the loader
        add eax, 3
        mov dx, 0x501
        out dx, al
hang32: hlt
        jmp hang32

; esi: base and length, 64 bits each, and a type
print_range:
        push edi
        push esi
        mov edi, [esi + 16]
        cmp edi, 1
        jne .skip               ; only RAM is the test's business
        push esi
        lea esi, [AT(text_ram)]
        mov edi, [esp]
        mov edi, [edi]
        call print_field
        pop esi
.skip:
        pop esi
        pop edi
        ret

; The words at esi, a space, edi in hexadecimal, a new line
print_field:
        push eax
        push ecx
        push edi
        call print
        mov al, ' '
        out CONSOLE, al
        mov ecx, 8
.digit:
        rol edi, 4
        mov eax, edi
        and al, 15
        cmp al, 10
        sbb al, 0x69
        das
        or al, 0x20             ; lower case
        out CONSOLE, al
        loop .digit
        mov al, 10
        out CONSOLE, al
        pop edi
        pop ecx
        pop eax
        ret

print_line:
        call print
        push eax
        mov al, 10
        out CONSOLE, al
        pop eax
        ret

print:
        push eax
        push esi
.next:
        lodsb
        test al, al
        jz .end
        out CONSOLE, al
        jmp .next
.end:
        pop esi
        pop eax
        ret

text_eax        db 'eax', 0
text_flags      db 'flags', 0
text_lower      db 'lower', 0
text_upper      db 'upper', 0
text_length     db 'length', 0
text_sections   db 'sections', 0
text_width      db 'width', 0
text_depth      db 'depth', 0
text_kind       db 'kind', 0
text_tag        db 'tag', 0
text_base       db 'base', 0
text_ram        db 'ram', 0

        align 16, db 0
%if !FLAT
; The null section, one that is loaded, and strings that aren't
sections:
%if ELF64
        times 64 db 0
        dd 1, 1
        dq 6, BASE + LINEAR, 0, 16
        dd 0, 0
        dq 16, 0
        dd 7, 3
        dq 0, 0, strings - image, strings_end - strings
        dd 0, 0
        dq 1, 0
%else
        times 40 db 0
        dd 1, 1, 6, BASE + LINEAR, 0, 16, 0, 0, 16, 0
        dd 7, 3, 0, 0, strings - image, strings_end - strings, 0, 0, 1, 0
%endif
strings:
        db 0, '.text', 0, '.shstrtab', 0
strings_end:
%endif

        align 16, db 0
end:
absolute end
bss     resb 256
stack:
bss_end:
