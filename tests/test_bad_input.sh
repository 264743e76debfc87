#!/bin/sh
# What users get wrong: each case ends with one clear sentence and a status other than 0, and never with a crash.
# Usage: test_bad_input.sh KILN
set -u
kiln=$(realpath "$1")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failures=0
slowness=${KILN_TIME_FACTOR:-1} # of a kiln that itself runs under an emulator
limit=$((60 * slowness))
bios=/usr/share/seabios/bios-256k.bin
[ -f "$bios" ] || { echo "SKIPPED: SeaBIOS is not installed"; exit 77; }

# refused WORDS ARGUMENTS...: kiln must end by itself with status 1 and a sentence that holds WORDS.
refused() {
    words=$1
    shift
    output=$(timeout $limit "$kiln" -display none "$@" 2>&1 </dev/null)
    status=$?
    case $output in
        "kiln: "*"$words"*) found=yes ;;
        *) found=no ;;
    esac
    if [ $status -ne 1 ] || [ $found = no ]; then
        echo "FAILED: kiln $*"
        echo "  status $status, wanted 1 and '$words', got: $output" | head -5
        failures=$((failures + 1))
    fi
}

: >empty
head -c 100 /dev/zero >short
head -c 100000 /dev/zero >zeros
head -c 65536 /dev/zero >zeros64k
mkdir directory

# -- kernel and initrd
refused "can't open the kernel" -kernel missing
refused "is empty" -kernel empty
refused "is no kernel" -kernel short
refused "is no kernel" -kernel zeros
refused "is a directory" -kernel directory
refused "only makes sense with -kernel" -initrd zeros
printf '\177ELF' >elf
refused "truncated" -kernel elf
printf '\002\260\255\033\000\000\000\000\376\117\122\344' >multiboot
refused "neither an ELF file" -kernel multiboot
printf '\037\213\010' >packed
refused "gunzip" -kernel packed
# A kernel's first 8 KiB, as a broken download leaves them: 31 set-up sectors are announced.
{
    head -c 497 /dev/zero
    printf '\037'
    head -c 12 /dev/zero
    printf '\125\252\353\146HdrS\017\002'
    head -c 9 /dev/zero
    printf '\001'
    head -c 7654 /dev/zero
} >truncated
refused "truncated" -kernel truncated
refused "can't open the initrd" -kernel truncated -initrd missing
refused "initrd 'empty' is empty" -kernel truncated -initrd empty

# -- firmware
refused "can't open the firmware" -bios missing
refused "is empty" -bios empty
refused "multiple of 64 KiB" -bios zeros
refused "no code at the reset vector" -bios zeros64k
head -c 200000 "$bios" >half.bin
refused "multiple of 64 KiB" -bios half.bin

# -- memory
refused "not possible" -m 1
refused "not possible" -m 512G
refused "is not a size" -m lots

# -- disks
refused "missing" -hda missing
refused "empty" -hda empty
refused "directory" -hda directory
refused "missing" missing
refused "missing" -cdrom missing
refused "missing" -fda missing
refused "two drives" -hda zeros -hda zeros64k
head -c 4000000 /dev/zero >big
refused "too large for a floppy" -fda big

# -- outputs
refused "can't write" -serial file:/nonexistent/x
refused "can't write" -debugcon file:directory
refused "can't write" -D /nonexistent/log
refused "no category" -d nonsense
refused "too long" -monitor "unix:/tmp/$(printf '%0200d' 0)"

# -- a guest that triple-faults at once: a ROM whose reset vector loads an IDT of length 0 and divides by zero.
{
    head -c 65520 /dev/zero
    #  cli; lidt [cs:fff8]; ud2            and behind it six zeros for lidt
    printf '\372\056\017\001\036\372\377\017\013\220\000\000\000\000\000\000'
} >triple.bin
refused "shut its processor down" -bios triple.bin -vga none -no-reboot
refused "right after every reset" -bios triple.bin -vga none

# -- a disk without a boot sector: the firmware says so on the screen, and kiln goes on until it is ended.
screen=$( (sleep $((6 * slowness)); echo "info screen"; echo quit) | timeout $limit "$kiln" -display none -monitor stdio zeros 2>&1)
status=$?
case $screen in
    *"not a bootable disk"* | *"No bootable device"* | *"Boot failed"*) ;;
    *)
        echo "FAILED: a disk without a boot sector: status $status, screen: $screen"
        failures=$((failures + 1))
        ;;
esac
[ $status -eq 0 ] || { echo "FAILED: quit gave status $status"; failures=$((failures + 1)); }
cmp -s zeros /dev/null || [ "$(wc -c <zeros)" -eq 100000 ] || { echo "FAILED: the image changed"; failures=$((failures + 1)); }

# -- a full host disk: the output is lost, and said to be, and the machine goes on.
full=$( (sleep $((2 * slowness)); echo quit) | timeout $limit "$kiln" -display none -monitor stdio -debugcon file:/dev/full 2>&1)
case $full in
    *"writing to '/dev/full' failed"*) ;;
    *)
        echo "FAILED: a full host disk: $full"
        failures=$((failures + 1))
        ;;
esac

[ $failures -eq 0 ] && echo "all refusals are as they should be"
exit $((failures != 0))
