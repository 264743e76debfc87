"""A raw disk image with a GPT that GRUB starts from a BIOS boot partition, made without loop devices or mounting: what a
file system's image and GRUB's own parts need around them."""
import os
import struct
import subprocess
import tempfile
import uuid
import zlib

SECTOR = 512
ENTRIES, ENTRY_SIZE = 128, 128
BIOS_BOOT = uuid.UUID("21686148-6449-6E6F-744E-656564454649")
LINUX_ROOT = uuid.UUID("0FC63DAF-8483-4772-8E79-3D69D8477DE4")
BOOT_LBA, BOOT_SECTORS = 2048, 2048
ROOT_LBA = BOOT_LBA + BOOT_SECTORS
# Everything the menu needs, so that no modules have to be found on the disk.
GRUB_MODULES = "biosdisk part_gpt ext2 normal linux echo serial terminal test boot ls cat reboot halt sleep".split()


def gpt_entry(kind, first, sectors, name):
    # A name-based UUID keeps the image the same from one making to the next.
    identity = uuid.uuid5(kind, name)
    return struct.pack("<16s16sQQQ72s", kind.bytes_le, identity.bytes_le, first, first + sectors - 1, 0, name.encode("utf-16-le"))


def gpt_header(entries, at, other, entries_at, last_lba):
    """UEFI specification 5.3.2. `at` and `other` are the LBAs of this header and of its copy."""
    def pack(header_crc):
        return struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, header_crc, 0, at, other, 34, last_lba - 33,
                           uuid.uuid5(LINUX_ROOT, "disk").bytes_le, entries_at, ENTRIES, ENTRY_SIZE, zlib.crc32(entries))
    return pack(zlib.crc32(pack(0))).ljust(SECTOR, b"\0")


def grub_boot_sector(boot_img, last_lba):
    """boot.img with the place of the core image (offset 5Ch), and the protective MBR's one partition."""
    sector = bytearray(boot_img[:SECTOR])
    struct.pack_into("<Q", sector, 0x5c, BOOT_LBA)
    sector[0x66:0x68] = b"\x90\x90"  # take the drive the BIOS names
    sector[446:510] = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xee, b"\xff\xff\xff", 1, last_lba).ljust(64, b"\0")
    return bytes(sector)


def grub_core_image(core):
    """The core image in one piece: its first sector's block list (at 1F4h) names the rest."""
    image = bytearray(core)
    struct.pack_into("<QHH", image, 0x1f4, BOOT_LBA + 1, (len(core) + SECTOR - 1) // SECTOR - 1, 0x820)
    return bytes(image)


def make(path, root_image, grub_directory="/usr/lib/grub/i386-pc"):
    """Writes the disk; the file system in `root_image` becomes its second partition."""
    root_sectors = (os.path.getsize(root_image) + SECTOR - 1) // SECTOR
    last_lba = ROOT_LBA + root_sectors + 2048 - 1
    entries = (gpt_entry(BIOS_BOOT, BOOT_LBA, BOOT_SECTORS, "grub") +
               gpt_entry(LINUX_ROOT, ROOT_LBA, root_sectors, "root")).ljust(ENTRIES * ENTRY_SIZE, b"\0")
    with tempfile.NamedTemporaryFile() as made:
        subprocess.run(["grub-mkimage", "-d", grub_directory, "-O", "i386-pc", "-p", "(hd0,gpt2)/boot/grub", "-o", made.name,
                        *GRUB_MODULES], check=True, capture_output=True)
        core = made.read()
    with open(grub_directory + "/boot.img", "rb") as f:
        boot_img = f.read()
    with open(path, "wb") as disk:
        def put(lba, data):
            disk.seek(lba * SECTOR)
            disk.write(data)
        disk.truncate((last_lba + 1) * SECTOR)
        put(0, grub_boot_sector(boot_img, last_lba))
        put(1, gpt_header(entries, 1, last_lba, 2, last_lba))
        put(2, entries)
        put(last_lba - 32, entries)
        put(last_lba, gpt_header(entries, last_lba, 1, last_lba - 32, last_lba))
        put(BOOT_LBA, grub_core_image(core))
        with open(root_image, "rb") as root:
            at = ROOT_LBA
            while chunk := root.read(1 << 20):
                if chunk.count(0) != len(chunk):  # holes stay holes
                    put(at, chunk)
                at += len(chunk) // SECTOR
