# Runs in the guest: loads the drivers, then writes and reads back an ext2 file system on /dev/sda and compares the CD-ROM's
# kernel with itself, read twice. Ends with 0 when all is well.
set -e
. /modules/load 2>&1 | grep -v "File exists" || true
sleep 2
mke2fs /dev/sda >/dev/null
mkdir -p /disk /cd
mount -t ext4 /dev/sda /disk
dd if=/dev/urandom of=/disk/data bs=1M count=24 2>/dev/null
before=$(md5sum </disk/data)
umount /disk
echo 3 >/proc/sys/vm/drop_caches
mount -t ext4 /dev/sda /disk
after=$(md5sum </disk/data)
[ "$before" = "$after" ] && echo "disk: 24 MiB read back equal"
umount /disk
mount -t iso9660 /dev/sr0 /cd
echo "cdrom: kernel $(md5sum </cd/boot/vmlinuz | cut -d' ' -f1)"
echo "interrupts: $(grep -c ata_piix /proc/interrupts) lines"
if dmesg | grep -iE "ata[0-9].*(exception|failed|timeout|error)|I/O error"; then exit 1; fi
[ "$before" = "$after" ]
