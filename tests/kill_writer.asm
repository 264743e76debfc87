; A ROM in place of a BIOS: writes groups of sectors that all hold the group's number, flushes the drive's cache, and only then tells
; the number on COM1, a line each. test_kill.py kills kiln meanwhile and looks at the image.
        bits 16
        cpu 386
        org 0

kBuffer  equ 8000h
kSectors equ 4                  ; a group
kSlots   equ 256                ; groups on the disk, from LBA 64
kFirst   equ 64

start:  cli
        cld
        xor ax, ax
        mov es, ax
        mov ds, ax
        mov ss, ax
        mov sp, 7000h
        mov dx, 3FBh            ; COM1 as fast as it goes
        mov al, 80h
        out dx, al
        mov dx, 3F8h
        mov al, 1
        out dx, al
        inc dx
        xor al, al
        out dx, al
        mov dx, 3FBh
        mov al, 3
        out dx, al
        mov dx, 3F6h            ; no interrupts
        mov al, 2
        out dx, al
        xor ebp, ebp            ; the number

group:  mov eax, ebp
        mov di, kBuffer
        mov cx, kSectors * 128
        rep stosd
        call idle
        mov eax, ebp
        and eax, kSlots - 1
        imul eax, kSectors
        add eax, kFirst
        mov ebx, eax
        mov dx, 1F2h
        mov al, kSectors
        out dx, al
        inc dx
        mov al, bl
        out dx, al
        inc dx
        mov al, bh
        out dx, al
        inc dx
        xor al, al
        out dx, al
        inc dx
        mov al, 0E0h
        out dx, al
        inc dx
        mov al, 30h             ; WRITE SECTORS
        out dx, al
        mov si, kBuffer
        mov bl, kSectors
.sector:
        call wanted
        mov dx, 1F0h
        mov cx, 256
        rep outsw
        dec bl
        jnz .sector
        call idle
        mov al, 0E7h            ; FLUSH CACHE
        out dx, al
        call idle
        mov cx, 8               ; eight hexadecimal digits and a line feed
        mov eax, ebp
.digit: rol eax, 4
        push ax
        and al, 15
        cmp al, 10
        sbb al, 69h
        das
        call say
        pop ax
        loop .digit
        mov al, 10
        call say
        inc ebp
        jmp group

; Waits until the drive is neither busy nor failing; DX = 1F7h.
idle:   mov dx, 1F7h
.wait:  in al, dx
        test al, 80h
        jnz .wait
        test al, 21h
        jnz failed
        ret

; Waits until the drive wants data.
wanted: call idle
        test al, 8
        jz wanted
        ret

failed: mov al, '!'
        call say
        cli
        hlt

say:    push dx
        push ax
        mov dx, 3FDh
.wait:  in al, dx
        test al, 20h
        jz .wait
        pop ax
        mov dx, 3F8h
        out dx, al
        pop dx
        ret

        times 0FFF0h - ($ - $$) db 0
        jmp 0F000h:start
        times 10000h - ($ - $$) db 0
