; The demonstration guest: a boot sector that says so on the debug port, then draws moving interference rings in mode 13h until a
; key is pressed, and returns to a text screen. Needs nothing but a PC of 1987.
        bits 16
        org 7C00h

start:  xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 7C00h
        cld
        mov si, banner
.say:   lodsb
        test al, al
        jz .said
        out 0E9h, al
        mov ah, 0Eh
        mov bx, 7
        int 10h
        jmp .say
.said:  mov ax, 13h
        int 10h
        ; a palette that goes round: red, green and blue triangles a third apart
        mov dx, 3C8h
        xor al, al
        out dx, al
        inc dx
        xor cx, cx
.dac:   mov bl, cl
        call triangle
        lea bx, [ecx+85]
        call triangle
        lea bx, [ecx+170]
        call triangle
        inc cl
        jnz .dac
        mov ax, 0A000h
        mov es, ax
.frame: xor di, di
        mov bp, -100            ; y
.row:   mov cx, -160            ; x
.pixel: mov ax, cx
        imul ax, cx
        mov bx, bp
        imul bx, bp
        add ax, bx              ; x*x + y*y
        shr ax, 5
        add al, [phase]
        stosb
        inc cx
        cmp cx, 160
        jl .pixel
        inc bp
        cmp bp, 100
        jl .row
        sub byte [phase], 3
        mov ah, 1
        int 16h
        jz .frame
        mov ax, 3
        int 10h
        mov al, '.'
        out 0E9h, al
        int 19h

; Writes the DAC component for angle BL: 0..63..0.
triangle:
        mov al, bl
        test al, al
        jns .up
        not al
.up:    shr al, 1
        out dx, al
        ret

phase:  db 0
banner: db 'kiln demonstration guest: press a key to leave', 13, 10, 0

        times 510-($-$$) db 0
        dw 0AA55h
        times 1474560-512 db 0
