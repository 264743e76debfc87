; The option ROM that starts a Multiboot, PVH or ELF kernel given with -kernel. The host has decided where everything goes
; (devices/boot_plan.cpp). The ROM asks the firmware for what only it knows, then in protected mode copies the parts out
; of fw_cfg, completes what the kernel is told, and jumps.

ROM_SIZE        equ 3072

%include "option_rom.inc"

        HEADER 'Kernel of -kernel'

; Scratch memory: 0x500 to 0x3000, which no part of a kernel may use (GuestSpace::kLowBegin).
descriptor      equ 0x500       ; of fw_cfg's DMA, 16 bytes
part            equ 0x510       ; address, bytes, zeroes behind them
gdt             equ 0x520       ; 6 descriptors
gdt_pointer     equ 0x550
plan            equ 0x600       ; BootPlan, in the order of offerPlan()
PLAN_PROTOCOL   equ plan
PLAN_ENTRY      equ plan + 4
PLAN_EAX        equ plan + 8
PLAN_INFO       equ plan + 12
PLAN_DYNAMIC    equ plan + 16
PLAN_VBE_INFO   equ plan + 20
PLAN_TABLES     equ plan + 24
PLAN_GRAPHICS   equ plan + 28
PLAN_WIDTH      equ plan + 32
PLAN_HEIGHT     equ plan + 36
PLAN_DEPTH      equ plan + 40
PLAN_SIZE       equ 44
lower_memory    equ 0x640       ; KiB below and above 1 MiB
upper_memory    equ 0x644
map_count       equ 0x648
vbe_mode        equ 0x64c       ; the mode that was set
rsdp            equ 0x650       ; address, or 0
control         equ 0x654       ; of the next DMA transfer
mode_info       equ 0x800       ; 256 bytes
vbe_info        equ 0xa00       ; 512 bytes
STACK           equ 0x2000
map             equ 0x2000      ; base, length, type, 0
MAP_CAPACITY    equ 128         ; BootPlan::kMapCapacity

; In the BIOS data area
BDA_EBDA        equ 0x40e
BDA_VIDEO_MODE  equ 0x449
BDA_COLUMNS     equ 0x44a
BDA_LAST_ROW    equ 0x484

CODE32          equ 0x08        ; flat
DATA32          equ 0x10
CODE64          equ 0x18
ROM32           equ 0x20        ; this ROM, beginning at 0
TSS32           equ 0x28

MULTIBOOT1      equ 1
MULTIBOOT2      equ 2

; VBE mode information
MODE_ATTRIBUTES equ mode_info
MODE_PITCH      equ mode_info + 0x10
MODE_WIDTH      equ mode_info + 0x12
MODE_HEIGHT     equ mode_info + 0x14
MODE_DEPTH      equ mode_info + 0x19
MODE_MODEL      equ mode_info + 0x1b
MODE_RED_SIZE   equ mode_info + 0x1f    ; size, position; then green and blue
MODE_FRAMEBUFFER equ mode_info + 0x28
USABLE          equ 0x91        ; supported, graphics, linear framebuffer

boot:
        cld
        xor ax, ax
        mov ds, ax
        mov es, ax
        cli
        mov ss, ax
        mov sp, STACK
        sti

        mov eax, SETUP_DATA << 16 | DMA_READ | DMA_SELECT
        bswap eax
        mov [control], eax
        mov edi, plan
        mov ecx, PLAN_SIZE
        call start_read16
        cmp dword [PLAN_PROTOCOL], 0
        je failed

        mov ax, 0x2401          ; A20 on
        int 0x15
        call read_memory_map
        jc failed
        mov dword [vbe_mode], 0
        cmp dword [PLAN_GRAPHICS], 0
        je .text
        call set_graphics
.text:
        cli
        call build_gdt
        lgdt [gdt_pointer]
        mov eax, 0x11           ; PE, ET: everything else is off
        mov cr0, eax
        jmp ROM32:protected

; One DMA transfer in real mode: ecx bytes to edi, as [control] says.
start_read16:
        mov eax, [control]
        START_DMA descriptor
        ret                     ; done when OUT is

; ACPI 6.4, 15.1: INT 15h, AX=E820h. Carry: there is no map.
read_memory_map:
        int 0x12
        movzx eax, ax
        mov [lower_memory], eax
        mov dword [map_count], 0
        mov di, map
        xor ebx, ebx
.next:
        mov eax, 0xe820
        mov edx, 'PAMS'
        mov ecx, 20
        mov dword [di + 20], 0
        int 0x15
        jc .end
        cmp eax, 'PAMS'
        jne .end
        add di, 24
        inc dword [map_count]
        cmp dword [map_count], MAP_CAPACITY
        jae .end
        test ebx, ebx
        jnz .next
.end:
        cmp dword [map_count], 1        ; carry when there is no entry
        ret

; Looks for the wished mode, first with the wished depth, then with any, and sets it.
set_graphics:
        mov eax, [PLAN_WIDTH]
        test eax, eax
        jnz .have_width
        mov dword [PLAN_WIDTH], 1024
.have_width:
        cmp dword [PLAN_HEIGHT], 0
        jne .have_height
        mov dword [PLAN_HEIGHT], 768
.have_height:
        cmp dword [PLAN_DEPTH], 0
        jne .have_depth
        mov dword [PLAN_DEPTH], 32
.have_depth:
        mov dword [vbe_info], 'VBE2'
        mov ax, 0x4f00
        mov di, vbe_info
        int 0x10
        cmp ax, 0x004f
        jne .none
.scan:
        lfs si, [vbe_info + 0x0e]       ; the list of modes
.next:
        mov cx, [fs:si]
        add si, 2
        cmp cx, 0xffff
        je .end_of_list
        mov ax, 0x4f01
        mov di, mode_info
        int 0x10
        cmp ax, 0x004f
        jne .next
        mov al, [MODE_ATTRIBUTES]
        and al, USABLE
        cmp al, USABLE
        jne .next
        cmp byte [MODE_MODEL], 6        ; direct colour
        jne .next
        movzx eax, word [MODE_WIDTH]
        cmp eax, [PLAN_WIDTH]
        jne .next
        movzx eax, word [MODE_HEIGHT]
        cmp eax, [PLAN_HEIGHT]
        jne .next
        movzx eax, byte [MODE_DEPTH]
        cmp dword [PLAN_DEPTH], 0
        je .found
        cmp eax, [PLAN_DEPTH]
        jne .next
.found:
        mov bx, cx
        or bx, 0x4000                   ; linear framebuffer
        mov ax, 0x4f02
        push cx
        int 0x10
        pop cx
        cmp ax, 0x004f
        jne .next
        movzx ecx, cx
        mov [vbe_mode], ecx
        ret
.end_of_list:
        cmp dword [PLAN_DEPTH], 0
        mov dword [PLAN_DEPTH], 0
        jne .scan
.none:
        ret

build_gdt:
        mov si, gdt_image
        mov di, gdt
        mov cx, (gdt_image_end - gdt_image) / 2
.copy:
        mov ax, [cs:si]
        mov [di], ax
        add si, 2
        add di, 2
        loop .copy
        mov eax, cs
        shl eax, 4
        or [gdt + ROM32 + 2], eax       ; its upper byte is 0
        mov word [gdt_pointer], gdt_image_end - gdt_image - 1
        mov dword [gdt_pointer + 2], gdt
        ret

        FAILED

message db 'kiln: the firmware gave no memory map, or fw_cfg did not answer', 13, 10, 0

        align 8, db 0
gdt_image:
        dq 0
        dq 0x00cf9b000000ffff           ; CODE32
        dq 0x00cf93000000ffff           ; DATA32
        dq 0x00af9b000000ffff           ; CODE64
        dq 0x00409b000000ffff           ; ROM32
        dq 0x0000890000000067           ; TSS32, at 0: nobody uses it
gdt_image_end:

bits 32
protected:
        mov ax, DATA32
        mov ds, ax
        mov es, ax
        mov fs, ax
        mov gs, ax
        mov ss, ax
        mov esp, STACK
        mov ax, TSS32
        ltr ax
        xor eax, eax
        lldt ax
        mov cr4, eax

        mov eax, KERNEL_DATA << 16 | DMA_READ | DMA_SELECT
        bswap eax
        mov [control], eax
.next_part:
        mov edi, part
        mov ecx, 12
        call read
        mov edi, [part]
        mov ecx, [part + 4]
        mov eax, ecx
        or eax, [part + 8]
        jz .loaded
        call read
        mov edi, [part]
        add edi, [part + 4]
        mov ecx, [part + 8]
        xor eax, eax
        mov edx, ecx
        shr ecx, 2
        rep stosd
        mov ecx, edx
        and ecx, 3
        rep stosb
        jmp .next_part
.loaded:
        call find_rsdp
        call find_upper_memory
        mov ebx, [PLAN_INFO]
        mov edi, [PLAN_DYNAMIC]
        mov eax, [PLAN_PROTOCOL]
        cmp eax, MULTIBOOT1
        je .one
        cmp eax, MULTIBOOT2
        je .two
        call complete_pvh
        jmp .complete
.one:
        call complete_multiboot1
        jmp .complete
.two:
        call complete_multiboot2
.complete:
        cmp dword [PLAN_TABLES], 0
        jne start_long_mode
        xor ecx, ecx
        xor edx, edx
        xor esi, esi
        xor edi, edi
        xor ebp, ebp
        push dword 2
        popfd
        push dword CODE32
        push dword [PLAN_ENTRY]
        mov eax, [PLAN_EAX]
        retf

; An ELF file of 64 bits without a protocol: the first 4 GiB mapped to themselves in pages of 2 MiB.
start_long_mode:
        mov edi, [PLAN_TABLES]
        mov ecx, 6 * 4096 / 4
        xor eax, eax
        rep stosd
        mov edi, [PLAN_TABLES]
        lea eax, [edi + 0x1003]
        mov [edi], eax                  ; the PML4's entry
        mov ecx, 4
        lea esi, [edi + 0x1000]
.directories:
        add eax, 0x1000
        mov [esi], eax
        add esi, 8
        loop .directories
        lea esi, [edi + 0x2000]
        mov eax, 0x83                   ; present, writable, 2 MiB
        mov ecx, 4 * 512
.pages:
        mov [esi], eax
        add esi, 8
        add eax, 2 << 20
        loop .pages
        mov cr3, edi
        mov eax, 0x20                   ; PAE
        mov cr4, eax
        mov ecx, 0xc0000080             ; EFER.LME
        rdmsr
        or eax, 0x100
        wrmsr
        mov eax, 0x80000011
        mov cr0, eax
        call .here
.here:
        pop eax                         ; an offset in the ROM
        mov ecx, [gdt + ROM32 + 2]
        and ecx, 0xffffff
        lea eax, [eax + ecx + long_mode - .here]
        push dword CODE64
        push eax
        retf

bits 64
long_mode:
        mov esp, STACK
        mov ebx, [abs PLAN_INFO]
        mov edi, ebx
        mov eax, [abs PLAN_ENTRY]
        xor ecx, ecx
        xor edx, edx
        xor esi, esi
        xor ebp, ebp
        xor r8d, r8d
        xor r9d, r9d
        xor r10d, r10d
        xor r11d, r11d
        xor r12d, r12d
        xor r13d, r13d
        xor r14d, r14d
        xor r15d, r15d
        push 2
        popfq
        jmp rax
bits 32

; One DMA transfer: ecx bytes to edi; the first one selects the kernel's item, the others go on in it.
read:
        mov eax, [control]
        mov dword [control], DMA_READ << 24     ; big-endian
        START_DMA descriptor
        ret

; ACPI 6.4, 5.2.5.1: in the first KiB of the extended BIOS data area, or between 0xE0000 and 1 MiB.
find_rsdp:
        movzx esi, word [BDA_EBDA]
        shl esi, 4
        lea ecx, [esi + 1024]
        call .scan
        jz .found
        mov esi, 0xe0000
        mov ecx, 0x100000
        call .scan
        jz .found
        xor esi, esi
.found:
        mov [rsdp], esi
        ret
; Zero: esi points to it. ecx is the end.
.scan:
        cmp dword [esi], 'RSD '
        jne .next
        cmp dword [esi + 4], 'PTR '
        jne .next
        push ecx
        xor eax, eax
        mov ecx, 20
.sum:
        add al, [esi + ecx - 1]
        loop .sum
        pop ecx
        test al, al
        jz .end
.next:
        add esi, 16
        cmp esi, ecx
        jb .scan
        or eax, 1
.end:
        ret

; KiB of RAM from 1 MiB to the first hole.
find_upper_memory:
        mov dword [upper_memory], 0
        mov esi, map
        mov ecx, [map_count]
.next:
        cmp dword [esi + 16], 1         ; RAM
        jne .other
        cmp dword [esi + 4], 0
        jne .other
        cmp dword [esi], 0x100000
        ja .other
        mov eax, [esi]
        mov edx, [esi + 12]
        add eax, [esi + 8]
        adc edx, 0                      ; the end
        jnz .have_end
        cmp eax, 0x100000
        jbe .other
.have_end:
        sub eax, 0x100000
        sbb edx, 0
        shrd eax, edx, 10
        mov [upper_memory], eax
.other:
        add esi, 24
        loop .next
        ret

; ebx: the boot information, edi: the memory map's place
complete_multiboot1:
        mov eax, [lower_memory]
        mov [ebx + 4], eax
        mov eax, [upper_memory]
        mov [ebx + 8], eax
        imul eax, [map_count], 24
        mov [ebx + 44], eax
        mov esi, map
        mov edx, [map_count]
.entry:
        mov eax, 20                     ; the size of what follows
        stosd
        mov ecx, 5
        rep movsd
        add esi, 4
        dec edx
        jnz .entry
        cmp dword [PLAN_GRAPHICS], 0
        je .done
        lea edi, [ebx + 88]
        call describe_framebuffer
        jc .done
        or dword [ebx], 1 << 12
        cmp dword [vbe_mode], 0
        je .done
        or dword [ebx], 1 << 11
        mov edi, [PLAN_VBE_INFO]
        mov [ebx + 72], edi
        mov esi, vbe_info
        mov ecx, 512 / 4
        rep movsd
        mov [ebx + 76], edi
        mov esi, mode_info
        mov ecx, 256 / 4
        rep movsd
        mov eax, [vbe_mode]
        mov [ebx + 80], ax              ; the interface's fields stay 0
.done:
        ret

; Writes what Multiboot's both versions say of the framebuffer to edi, from its address to its kind. Carry: there is none.
describe_framebuffer:
        cmp dword [vbe_mode], 0
        je .text
        mov eax, [MODE_FRAMEBUFFER]
        stosd
        xor eax, eax
        stosd
        movzx eax, word [MODE_PITCH]
        stosd
        movzx eax, word [MODE_WIDTH]
        stosd
        movzx eax, word [MODE_HEIGHT]
        stosd
        mov al, [MODE_DEPTH]
        stosb
        mov al, 1                       ; RGB
        stosb
        cmp dword [PLAN_PROTOCOL], MULTIBOOT2
        jne .colours
        xor eax, eax
        stosw                           ; reserved
.colours:
        mov esi, MODE_RED_SIZE
        mov ecx, 3
.colour:
        lodsw
        xchg al, ah                     ; position, size
        stosw
        loop .colour
        clc
        ret
.text:
        cmp word [BDA_COLUMNS], 0
        je .none
        cmp byte [BDA_VIDEO_MODE], 3
        ja .none
        mov eax, 0xb8000
        stosd
        xor eax, eax
        stosd
        movzx eax, word [BDA_COLUMNS]
        shl eax, 1
        stosd
        shr eax, 1
        stosd
        movzx eax, byte [BDA_LAST_ROW]
        inc eax
        stosd
        mov al, 16
        stosb
        mov al, 2                       ; EGA text
        stosb
        clc
        ret
.none:
        stc
        ret

; Appends the last tags at edi. ebx: the boot information, with its first tag for the sizes of memory
complete_multiboot2:
        mov eax, [lower_memory]
        mov [ebx + 16], eax
        mov eax, [upper_memory]
        mov [ebx + 20], eax

        mov eax, 6                      ; memory map
        stosd
        imul eax, [map_count], 24
        add eax, 16
        stosd
        mov eax, 24
        stosd
        xor eax, eax
        stosd
        imul ecx, [map_count], 6
        mov esi, map
        rep movsd

        mov ebp, edi
        mov dword [edi], 8              ; framebuffer
        add edi, 8
        call describe_framebuffer
        jc .no_framebuffer
        cmp dword [vbe_mode], 0
        jne .sized
        xor eax, eax
        stosw                           ; reserved
.sized:
        mov eax, edi
        sub eax, ebp
        mov [ebp + 4], eax
        call pad
        mov ebp, edi
.no_framebuffer:
        mov edi, ebp

        cmp dword [vbe_mode], 0
        je .no_vbe
        mov eax, 7                      ; VBE
        stosd
        mov eax, 784
        stosd
        movzx eax, word [vbe_mode]
        stosd                           ; and the interface's segment, which stays 0
        xor eax, eax
        stosd
        mov esi, vbe_info
        mov ecx, 512 / 4
        rep movsd
        mov esi, mode_info
        mov ecx, 256 / 4
        rep movsd
.no_vbe:

        mov edx, [rsdp]
        test edx, edx
        jz .no_acpi
        mov eax, 14                     ; the root pointer as ACPI 1.0 has it
        mov ecx, 20
        call append_rsdp
        cmp byte [edx + 15], 2          ; revision
        jb .no_acpi
        mov ecx, [edx + 20]             ; its length
        cmp ecx, 36
        jne .no_acpi
        mov eax, 15
        call append_rsdp
.no_acpi:
        xor eax, eax                    ; end
        stosd
        mov eax, 8
        stosd
        sub edi, ebx
        mov [ebx], edi
        ret

; A tag of type eax with ecx bytes from edx
append_rsdp:
        stosd
        lea eax, [ecx + 8]
        stosd
        mov esi, edx
        rep movsb
pad:
        xor eax, eax
.next:
        test edi, 7
        jz .done
        stosb
        jmp .next
.done:
        ret

; ebx: hvm_start_info, edi: the memory map's place
complete_pvh:
        mov eax, [map_count]
        mov [ebx + 48], eax
        imul ecx, eax, 6
        mov esi, map
        rep movsd
        mov eax, [rsdp]
        mov [ebx + 32], eax
        ret

        times ROM_SIZE - ($ - $$) db 0  ; the last byte makes the sum zero (devices/boot_plan.cpp)
