; The option ROM that starts a kernel given with -kernel. The firmware sees a bootable device;
; booting it copies the kernel's parts out of
; fw_cfg by DMA and jumps to its real-mode set-up code (Linux, Documentation/x86/boot.rst).
;
; The host has patched the set-up header already (devices/linux_loader.cpp), except for where the initial RAM disk lies:
; only the firmware knows how much RAM it kept for itself.

%include "option_rom.inc"

; fw_cfg items (devices/fw_cfg.hpp)
INITRD_ADDRESS  equ 0x0a        ; the highest one the kernel allows
INITRD_SIZE     equ 0x0b
KERNEL_ADDRESS  equ 0x07
KERNEL_SIZE     equ 0x08
INITRD_DATA     equ 0x12
CMDLINE_ADDRESS equ 0x13
CMDLINE_SIZE    equ 0x14
CMDLINE_DATA    equ 0x15
SETUP_ADDRESS   equ 0x16
SETUP_SIZE      equ 0x17

; Scratch memory in segment 0: free until a boot sector would be loaded.
SCRATCH         equ 0x7000      ; the stack lies below
descriptor      equ SCRATCH     ; 16 bytes
number          equ SCRATCH + 16
initrd_at       equ SCRATCH + 20

RAMDISK_IMAGE   equ 0x218       ; in the set-up header

ROM_SIZE        equ 1024
        HEADER 'Linux kernel of -kernel'

boot:
        cld
        xor ax, ax
        mov ds, ax
        mov es, ax
        cli
        mov ss, ax
        mov sp, SCRATCH
        sti

        mov ax, 0xe801          ; RAM: ax KiB above 1 MiB, bx 64 KiB blocks above 16 MiB
        xor bx, bx
        int 0x15
        jc failed
        movzx esi, bx
        shl esi, 16
        add esi, 16 << 20
        test bx, bx
        jnz .have_end
        movzx esi, ax
        shl esi, 10
        add esi, 1 << 20
.have_end:
        cli
        mov ax, INITRD_SIZE
        call read_number
        sub esi, eax
        and esi, ~0xfff
        mov ax, INITRD_ADDRESS
        call read_number
        cmp esi, eax
        jb .have_initrd_address
        mov esi, eax
.have_initrd_address:
        mov [initrd_at], esi

        mov bx, parts
.next_part:
        mov ax, [cs:bx]
        test ax, ax
        jz start
        call read_number
        mov edi, eax
        cmp word [cs:bx], INITRD_ADDRESS
        jne .have_destination
        mov edi, [initrd_at]
.have_destination:
        mov ax, [cs:bx + 2]
        call read_number
        mov ecx, eax
        mov ax, [cs:bx + 4]
        call read_item
        add bx, 6
        jmp .next_part

start:
        mov ax, SETUP_ADDRESS
        call read_number
        shr eax, 4
        mov ecx, [initrd_at]
        mov ds, ax
        cmp dword [RAMDISK_IMAGE + 4], 0        ; ramdisk_size
        je .no_initrd
        mov [RAMDISK_IMAGE], ecx
.no_initrd:
        mov es, ax
        mov fs, ax
        mov gs, ax
        mov ss, ax
        mov sp, 0xfff0
        add ax, 0x20            ; behind the boot sector
        push ax
        push word 0
        xor ebx, ebx
        xor ecx, ecx
        xor edx, edx
        xor esi, esi
        xor edi, edi
        xor ebp, ebp
        retf

; eax = the 32-bit number in item ax
read_number:
        push ecx
        push edi
        mov edi, number
        mov ecx, 4
        call read_item
        mov eax, [number]
        pop edi
        pop ecx
        ret

; Copies ecx bytes of item ax to physical address edi. fw_cfg's numbers are big-endian.
read_item:
        push edx
        shl eax, 16
        mov ax, DMA_READ | DMA_SELECT
        bswap eax
        START_DMA descriptor
.wait:
        mov eax, [descriptor]
        bswap eax
        test al, DMA_ERROR
        jnz failed
        test eax, eax
        jnz .wait
        pop edx
        ret

        FAILED

message db 'kiln: the firmware gave no memory size, or fw_cfg did not answer', 13, 10, 0

; address, size and data item of each part
parts:
        dw SETUP_ADDRESS, SETUP_SIZE, SETUP_DATA
        dw CMDLINE_ADDRESS, CMDLINE_SIZE, CMDLINE_DATA
        dw KERNEL_ADDRESS, KERNEL_SIZE, KERNEL_DATA
        dw INITRD_ADDRESS, INITRD_SIZE, INITRD_DATA
        dw 0

        times ROM_SIZE - ($ - $$) db 0      ; the last byte makes the sum zero (devices/linux_loader.cpp)
