; Firmware for tests/test_machine.cpp: the byte at offset 0 says which program runs after a reset.

bits 16
org 0

DEBUG_EXIT equ 0x501
KEPT       equ 0x50             ; a byte of CMOS RAM, which survives resets
TICKS      equ 0x500            ; in RAM

program db 0

entry:
        cli
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        mov bl, [cs:program]
        xor bh, bh
        shl bx, 1
        jmp [cs:programs + bx]

programs dw hello, three_resets, power_off, ten_ticks, sum_keys, dirty_shadow, all_processors, suspend, steady_time

; 0: a letter on the debug console, then code 7
hello:
        mov al, 'k'
        out 0xe9, al
        mov al, 3
exit:
        mov dx, DEBUG_EXIT
        out dx, al
        jmp $

; 1: resets by port 0xCF9 three times
three_resets:
        mov al, KEPT
        out 0x70, al
        in al, 0x71
        cmp al, 3
        je exit
        inc al
        mov ah, al
        mov al, KEPT
        out 0x70, al
        mov al, ah
        out 0x71, al
        mov dx, 0xcf9
        mov al, 6
        out dx, al
        jmp $

; 8: reads the time for 30 ms, and sees that it never goes backwards
steady_time:
        rdtsc
        mov esi, eax
        mov edi, edx
        lea ebx, [eax + 30000000]
.more:  rdtsc
        cmp edx, edi
        ja .later
        jb .backwards
        cmp eax, esi
        jb .backwards
.later: mov esi, eax
        mov edi, edx
        rdtscp
        cmp edx, edi
        ja .last
        jb .backwards
        cmp eax, esi
        jb .backwards
.last:  cmp eax, ebx
        jb .more
        mov al, 10
        jmp exit
.backwards:
        mov al, 11
        jmp exit

; 2: ACPI soft off
power_off:
        call map_pm
        mov dx, 0x604
        mov ax, 0x2000          ; SLP_EN, SLP_TYP 0
        out dx, ax
        jmp $

write_config:
        mov dx, 0xcf8
        out dx, eax
        mov dx, 0xcfc
        mov eax, ecx
        out dx, eax
        ret

; 3: sleeps through ten ticks of the PIT at 18.2 Hz
ten_ticks:
        call start_pic
        mov word [8 * 4], tick
        mov word [8 * 4 + 2], cs
        mov byte [TICKS], 0
        mov al, 0x34
        out 0x43, al
        xor al, al
        out 0x40, al
        out 0x40, al
        mov al, 0xfe
        out 0x21, al
.wait:
        sti
        hlt
        cli
        cmp byte [TICKS], 10
        jb .wait
        mov al, [TICKS]
        jmp exit

tick:
        push ax
        inc byte [TICKS]
        mov al, 0x20
        out 0x20, al
        pop ax
        iret

start_pic:
        mov al, 0x11
        out 0x20, al
        mov al, 8
        out 0x21, al
        mov al, 4
        out 0x21, al
        mov al, 1
        out 0x21, al
        mov al, 0xff
        out 0xa1, al
        ret

; 4: adds up scan codes (set 1) until Escape comes
sum_keys:
        xor bl, bl
.wait:
        in al, 0x64
        test al, 1
        jz .wait
        in al, 0x60
        cmp al, 1
        je .done
        add bl, al
        jmp .wait
.done:
        mov al, bl
        jmp exit

; 5: runs code in the ROM's shadow, then switches to other code in RAM behind the same addresses
dirty_shadow:
        call replaced           ; decodes it
        mov eax, 0x80000090     ; PAM0: 0xF0000 writes go to RAM, reads still to the ROM
        mov ecx, 0x20           ; as byte 0 of this dword
        call write_config
        mov ax, 0xf000
        mov es, ax
        xor di, di
        xor si, si
        mov cx, 0x8000
.copy:
        mov ax, [cs:si]
        mov [es:di], ax
        add si, 2
        add di, 2
        loop .copy
        mov byte [es:replaced + 1], 0x55 ; in RAM: the ROM still runs
        mov eax, 0x80000090
        mov ecx, 0x30           ; now RAM is read, too
        call write_config
        call replaced
        jmp exit
replaced:
        mov al, 0x11
        ret

; 6: starts the other processors, which count together; the code is how many came, or 7Fh when counts got lost
COUNT equ 0x600
COMERS equ 0x604
TRAMPOLINE equ 0x8000
all_processors:
        lgdt [cs:flat_gdt]      ; FS gets a limit of 4 GiB
        mov eax, cr0
        or al, 1
        mov cr0, eax
        mov bx, 8
        mov fs, bx
        and al, 0xfe
        mov cr0, eax
        mov dword [COUNT], 0
        mov dword [COMERS], 0
        mov si, helper
        mov di, TRAMPOLINE
        mov cx, helper_end - helper
.copy:
        mov al, [cs:si]
        mov [di], al
        inc si
        inc di
        loop .copy
        mov al, 0x5f
        out 0x70, al
        in al, 0x71
        movzx ebx, al
        mov dword [fs:dword 0xfee000f0], 0x1ff
        mov dword [fs:dword 0xfee00300], 0xc4500                     ; INIT
        mov dword [fs:dword 0xfee00300], 0xc4600 + TRAMPOLINE / 4096 ; start-up
.wait:
        pause
        cmp [COMERS], ebx
        jne .wait
        imul eax, ebx, 1000
        cmp [COUNT], eax
        mov al, bl
        je exit
        mov al, 0x7f
        jmp exit
helper:
        xor ax, ax
        mov ds, ax
        mov cx, 1000
.next:
        lock inc dword [COUNT]
        loop .next
        lock inc dword [COMERS]
        cli
        hlt
helper_end:

; 7: suspend to RAM until the alarm of the RTC, or until somebody wakes the machine, and look what is left
suspend:
        mov al, 0x0f            ; shutdown status
        out 0x70, al
        in al, 0x71
        cmp al, 0xfe
        je .awake
        mov byte [0x600], 0x5a
        mov eax, 0x80000090     ; PAM1, byte 1: 0xC0000 is RAM
        mov ecx, 0x3300
        call write_config
        mov ax, 0xc000
        mov es, ax
        mov byte [es:0], 0xa5
        call map_pm
        mov dx, 0x602
        mov ax, 0x400           ; RTC_EN
        out dx, ax
        mov al, 0x34            ; 64 KiB above 16 MiB
        out 0x70, al
        in al, 0x71
        test al, al
        jnz .sleep
        mov si, .alarm          ; every second
.set:
        mov ax, [cs:si]
        out 0x70, al
        mov al, ah
        out 0x71, al
        add si, 2
        cmp si, .alarm_end
        jb .set
.sleep:
        mov dx, 0x604
        mov ax, 0x2400          ; SLP_EN, SLP_TYP 1
        out dx, ax
        mov byte [0x600], 0     ; never
        jmp $
.alarm  db 1, 0xff, 3, 0xff, 5, 0xff, 0x0b, 0x22
.alarm_end:
.awake:
        mov ax, 0xc000
        mov es, ax
        mov bl, [0x600]
        add bl, [es:0]          ; FFh
        call map_pm
        mov dx, 0x600
        in ax, dx
        shr ax, 15              ; WAK_STS
        add bl, al              ; 0
        mov al, bl
        add al, 3
        jmp exit
map_pm:
        mov eax, 0x8000f840     ; the LPC bridge's PMBASE
        mov ecx, 0x601
        call write_config
        mov eax, 0x8000f844     ; ACPI_CNTL
        mov ecx, 0x80
        jmp write_config

        align 8
flat_gdt dw 15
        dd 0xf0000 + flat_gdt
        dw 0
        dq 0x00cf93000000ffff

        times 0xfff0 - ($ - $$) db 0
        jmp 0xf000:entry
        times 0x10000 - ($ - $$) db 0
