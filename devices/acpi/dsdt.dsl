// The DSDT: what the operating system can't find out by itself (ACPI 6.4, chapters 5, 6 and 19). Fixed for every
// machine, since the board is: RAM below 4 GiB ends at 0x80000000 at most, ECAM lies at 0xB0000000.
//
// Interrupt routing must say what Ich9Lpc::gsiOf() does.
DefinitionBlock ("", "DSDT", 2, "KILN", "KILNDSDT", 1)
{
    Scope (\)
    {
        // _PIC: 0 is the 8259 pair, 1 the I/O APIC.
        Name (PICF, 0)
        Method (_PIC, 1) { PICF = Arg0 }
        // The power button is a fixed feature (PM1_STS), no device.
        // SLP_TYP of S3 (suspend to RAM) and S5 (soft off). No other sleeping state.
        Name (_S3, Package () { 1, 0, 0, 0 })
        Name (_S5, Package () { 0, 0, 0, 0 })
    }

    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_SEG, 0)
            Name (_BBN, 0)

            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0, 0x0000, 0x00FF, 0, 0x0100)
                IO (Decode16, 0x0CF8, 0x0CF8, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0, 0x0000, 0x0CF7, 0, 0x0CF8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0, 0x0D00, 0xFFFF, 0, 0xF300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                    0, 0x000A0000, 0x000BFFFF, 0, 0x00020000)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0, 0x80000000, 0xAFFFFFFF, 0, 0x30000000)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0, 0xC0000000, 0xFEBFFFFF, 0, 0x3EC00000)
                // For 64-bit BARs: above all RAM, and within the 40 bits of 64-bit processors.
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                    0, 0x8000000000, 0xFFFFFFFFFF, 0, 0x8000000000)
            })

            // PCI Express native control isn't offered: there is nothing to control.
            Method (_OSC, 4)
            {
                CreateDWordField (Arg3, 0, CDW1)
                If (Arg0 == ToUUID ("33DB4D5B-1FF7-401C-9657-7441C03DD766"))
                {
                    CreateDWordField (Arg3, 8, CDW3)
                    If (Arg1 != 1) { CDW1 |= 0x08 }
                    If (CDW3 != 0) { CDW1 |= 0x10 }
                    CDW3 = 0
                }
                Else { CDW1 |= 0x04 }
                Return (Arg3)
            }

            // Functions behind bridges need no _PRT of their own: their pins are the bridge's by the usual swizzle.
            // Slots 0..24 go to PIRQ E..H by (slot + pin) & 3, slots 25..31 to PIRQ A..D by pin; PIRQ A..H are
            // interrupts 16..23 of the I/O APIC.
            Method (_PRT)
            {
                If (PICF) { Return (PRTA) }
                Return (PRTP)
            }
            Name (PRTA, Package ()
            {
                Package () { 0x0000FFFF, 0, 0, 20 }, Package () { 0x0000FFFF, 1, 0, 21 },
                Package () { 0x0000FFFF, 2, 0, 22 }, Package () { 0x0000FFFF, 3, 0, 23 },
                Package () { 0x0001FFFF, 0, 0, 21 }, Package () { 0x0001FFFF, 1, 0, 22 },
                Package () { 0x0001FFFF, 2, 0, 23 }, Package () { 0x0001FFFF, 3, 0, 20 },
                Package () { 0x0002FFFF, 0, 0, 22 }, Package () { 0x0002FFFF, 1, 0, 23 },
                Package () { 0x0002FFFF, 2, 0, 20 }, Package () { 0x0002FFFF, 3, 0, 21 },
                Package () { 0x0003FFFF, 0, 0, 23 }, Package () { 0x0003FFFF, 1, 0, 20 },
                Package () { 0x0003FFFF, 2, 0, 21 }, Package () { 0x0003FFFF, 3, 0, 22 },
                Package () { 0x0004FFFF, 0, 0, 20 }, Package () { 0x0004FFFF, 1, 0, 21 },
                Package () { 0x0004FFFF, 2, 0, 22 }, Package () { 0x0004FFFF, 3, 0, 23 },
                Package () { 0x0005FFFF, 0, 0, 21 }, Package () { 0x0005FFFF, 1, 0, 22 },
                Package () { 0x0005FFFF, 2, 0, 23 }, Package () { 0x0005FFFF, 3, 0, 20 },
                Package () { 0x0006FFFF, 0, 0, 22 }, Package () { 0x0006FFFF, 1, 0, 23 },
                Package () { 0x0006FFFF, 2, 0, 20 }, Package () { 0x0006FFFF, 3, 0, 21 },
                Package () { 0x0007FFFF, 0, 0, 23 }, Package () { 0x0007FFFF, 1, 0, 20 },
                Package () { 0x0007FFFF, 2, 0, 21 }, Package () { 0x0007FFFF, 3, 0, 22 },
                Package () { 0x0008FFFF, 0, 0, 20 }, Package () { 0x0008FFFF, 1, 0, 21 },
                Package () { 0x0008FFFF, 2, 0, 22 }, Package () { 0x0008FFFF, 3, 0, 23 },
                Package () { 0x0009FFFF, 0, 0, 21 }, Package () { 0x0009FFFF, 1, 0, 22 },
                Package () { 0x0009FFFF, 2, 0, 23 }, Package () { 0x0009FFFF, 3, 0, 20 },
                Package () { 0x000AFFFF, 0, 0, 22 }, Package () { 0x000AFFFF, 1, 0, 23 },
                Package () { 0x000AFFFF, 2, 0, 20 }, Package () { 0x000AFFFF, 3, 0, 21 },
                Package () { 0x000BFFFF, 0, 0, 23 }, Package () { 0x000BFFFF, 1, 0, 20 },
                Package () { 0x000BFFFF, 2, 0, 21 }, Package () { 0x000BFFFF, 3, 0, 22 },
                Package () { 0x000CFFFF, 0, 0, 20 }, Package () { 0x000CFFFF, 1, 0, 21 },
                Package () { 0x000CFFFF, 2, 0, 22 }, Package () { 0x000CFFFF, 3, 0, 23 },
                Package () { 0x000DFFFF, 0, 0, 21 }, Package () { 0x000DFFFF, 1, 0, 22 },
                Package () { 0x000DFFFF, 2, 0, 23 }, Package () { 0x000DFFFF, 3, 0, 20 },
                Package () { 0x000EFFFF, 0, 0, 22 }, Package () { 0x000EFFFF, 1, 0, 23 },
                Package () { 0x000EFFFF, 2, 0, 20 }, Package () { 0x000EFFFF, 3, 0, 21 },
                Package () { 0x000FFFFF, 0, 0, 23 }, Package () { 0x000FFFFF, 1, 0, 20 },
                Package () { 0x000FFFFF, 2, 0, 21 }, Package () { 0x000FFFFF, 3, 0, 22 },
                Package () { 0x0010FFFF, 0, 0, 20 }, Package () { 0x0010FFFF, 1, 0, 21 },
                Package () { 0x0010FFFF, 2, 0, 22 }, Package () { 0x0010FFFF, 3, 0, 23 },
                Package () { 0x0011FFFF, 0, 0, 21 }, Package () { 0x0011FFFF, 1, 0, 22 },
                Package () { 0x0011FFFF, 2, 0, 23 }, Package () { 0x0011FFFF, 3, 0, 20 },
                Package () { 0x0012FFFF, 0, 0, 22 }, Package () { 0x0012FFFF, 1, 0, 23 },
                Package () { 0x0012FFFF, 2, 0, 20 }, Package () { 0x0012FFFF, 3, 0, 21 },
                Package () { 0x0013FFFF, 0, 0, 23 }, Package () { 0x0013FFFF, 1, 0, 20 },
                Package () { 0x0013FFFF, 2, 0, 21 }, Package () { 0x0013FFFF, 3, 0, 22 },
                Package () { 0x0014FFFF, 0, 0, 20 }, Package () { 0x0014FFFF, 1, 0, 21 },
                Package () { 0x0014FFFF, 2, 0, 22 }, Package () { 0x0014FFFF, 3, 0, 23 },
                Package () { 0x0015FFFF, 0, 0, 21 }, Package () { 0x0015FFFF, 1, 0, 22 },
                Package () { 0x0015FFFF, 2, 0, 23 }, Package () { 0x0015FFFF, 3, 0, 20 },
                Package () { 0x0016FFFF, 0, 0, 22 }, Package () { 0x0016FFFF, 1, 0, 23 },
                Package () { 0x0016FFFF, 2, 0, 20 }, Package () { 0x0016FFFF, 3, 0, 21 },
                Package () { 0x0017FFFF, 0, 0, 23 }, Package () { 0x0017FFFF, 1, 0, 20 },
                Package () { 0x0017FFFF, 2, 0, 21 }, Package () { 0x0017FFFF, 3, 0, 22 },
                Package () { 0x0018FFFF, 0, 0, 20 }, Package () { 0x0018FFFF, 1, 0, 21 },
                Package () { 0x0018FFFF, 2, 0, 22 }, Package () { 0x0018FFFF, 3, 0, 23 },
                Package () { 0x0019FFFF, 0, 0, 16 }, Package () { 0x0019FFFF, 1, 0, 17 },
                Package () { 0x0019FFFF, 2, 0, 18 }, Package () { 0x0019FFFF, 3, 0, 19 },
                Package () { 0x001AFFFF, 0, 0, 16 }, Package () { 0x001AFFFF, 1, 0, 17 },
                Package () { 0x001AFFFF, 2, 0, 18 }, Package () { 0x001AFFFF, 3, 0, 19 },
                Package () { 0x001BFFFF, 0, 0, 16 }, Package () { 0x001BFFFF, 1, 0, 17 },
                Package () { 0x001BFFFF, 2, 0, 18 }, Package () { 0x001BFFFF, 3, 0, 19 },
                Package () { 0x001CFFFF, 0, 0, 16 }, Package () { 0x001CFFFF, 1, 0, 17 },
                Package () { 0x001CFFFF, 2, 0, 18 }, Package () { 0x001CFFFF, 3, 0, 19 },
                Package () { 0x001DFFFF, 0, 0, 16 }, Package () { 0x001DFFFF, 1, 0, 17 },
                Package () { 0x001DFFFF, 2, 0, 18 }, Package () { 0x001DFFFF, 3, 0, 19 },
                Package () { 0x001EFFFF, 0, 0, 16 }, Package () { 0x001EFFFF, 1, 0, 17 },
                Package () { 0x001EFFFF, 2, 0, 18 }, Package () { 0x001EFFFF, 3, 0, 19 },
                Package () { 0x001FFFFF, 0, 0, 16 }, Package () { 0x001FFFFF, 1, 0, 17 },
                Package () { 0x001FFFFF, 2, 0, 18 }, Package () { 0x001FFFFF, 3, 0, 19 }
            })
            Name (PRTP, Package ()
            {
                Package () { 0x0000FFFF, 0, \_SB.PCI0.ISA.LNKE, 0 }, Package () { 0x0000FFFF, 1, \_SB.PCI0.ISA.LNKF, 0 },
                Package () { 0x0000FFFF, 2, \_SB.PCI0.ISA.LNKG, 0 }, Package () { 0x0000FFFF, 3, \_SB.PCI0.ISA.LNKH, 0 },
                Package () { 0x0001FFFF, 0, \_SB.PCI0.ISA.LNKF, 0 }, Package () { 0x0001FFFF, 1, \_SB.PCI0.ISA.LNKG, 0 },
                Package () { 0x0001FFFF, 2, \_SB.PCI0.ISA.LNKH, 0 }, Package () { 0x0001FFFF, 3, \_SB.PCI0.ISA.LNKE, 0 },
                Package () { 0x0002FFFF, 0, \_SB.PCI0.ISA.LNKG, 0 }, Package () { 0x0002FFFF, 1, \_SB.PCI0.ISA.LNKH, 0 },
                Package () { 0x0002FFFF, 2, \_SB.PCI0.ISA.LNKE, 0 }, Package () { 0x0002FFFF, 3, \_SB.PCI0.ISA.LNKF, 0 },
                Package () { 0x0003FFFF, 0, \_SB.PCI0.ISA.LNKH, 0 }, Package () { 0x0003FFFF, 1, \_SB.PCI0.ISA.LNKE, 0 },
                Package () { 0x0003FFFF, 2, \_SB.PCI0.ISA.LNKF, 0 }, Package () { 0x0003FFFF, 3, \_SB.PCI0.ISA.LNKG, 0 },
                Package () { 0x0004FFFF, 0, \_SB.PCI0.ISA.LNKE, 0 }, Package () { 0x0004FFFF, 1, \_SB.PCI0.ISA.LNKF, 0 },
                Package () { 0x0004FFFF, 2, \_SB.PCI0.ISA.LNKG, 0 }, Package () { 0x0004FFFF, 3, \_SB.PCI0.ISA.LNKH, 0 },
                Package () { 0x0005FFFF, 0, \_SB.PCI0.ISA.LNKF, 0 }, Package () { 0x0005FFFF, 1, \_SB.PCI0.ISA.LNKG, 0 },
                Package () { 0x0005FFFF, 2, \_SB.PCI0.ISA.LNKH, 0 }, Package () { 0x0005FFFF, 3, \_SB.PCI0.ISA.LNKE, 0 },
                Package () { 0x0006FFFF, 0, \_SB.PCI0.ISA.LNKG, 0 }, Package () { 0x0006FFFF, 1, \_SB.PCI0.ISA.LNKH, 0 },
                Package () { 0x0006FFFF, 2, \_SB.PCI0.ISA.LNKE, 0 }, Package () { 0x0006FFFF, 3, \_SB.PCI0.ISA.LNKF, 0 },
                Package () { 0x0007FFFF, 0, \_SB.PCI0.ISA.LNKH, 0 }, Package () { 0x0007FFFF, 1, \_SB.PCI0.ISA.LNKE, 0 },
                Package () { 0x0007FFFF, 2, \_SB.PCI0.ISA.LNKF, 0 }, Package () { 0x0007FFFF, 3, \_SB.PCI0.ISA.LNKG, 0 },
                Package () { 0x0008FFFF, 0, \_SB.PCI0.ISA.LNKE, 0 }, Package () { 0x0008FFFF, 1, \_SB.PCI0.ISA.LNKF, 0 },
                Package () { 0x0008FFFF, 2, \_SB.PCI0.ISA.LNKG, 0 }, Package () { 0x0008FFFF, 3, \_SB.PCI0.ISA.LNKH, 0 },
                Package () { 0x0009FFFF, 0, \_SB.PCI0.ISA.LNKF, 0 }, Package () { 0x0009FFFF, 1, \_SB.PCI0.ISA.LNKG, 0 },
                Package () { 0x0009FFFF, 2, \_SB.PCI0.ISA.LNKH, 0 }, Package () { 0x0009FFFF, 3, \_SB.PCI0.ISA.LNKE, 0 },
                Package () { 0x000AFFFF, 0, \_SB.PCI0.ISA.LNKG, 0 }, Package () { 0x000AFFFF, 1, \_SB.PCI0.ISA.LNKH, 0 },
                Package () { 0x000AFFFF, 2, \_SB.PCI0.ISA.LNKE, 0 }, Package () { 0x000AFFFF, 3, \_SB.PCI0.ISA.LNKF, 0 },
                Package () { 0x000BFFFF, 0, \_SB.PCI0.ISA.LNKH, 0 }, Package () { 0x000BFFFF, 1, \_SB.PCI0.ISA.LNKE, 0 },
                Package () { 0x000BFFFF, 2, \_SB.PCI0.ISA.LNKF, 0 }, Package () { 0x000BFFFF, 3, \_SB.PCI0.ISA.LNKG, 0 },
                Package () { 0x000CFFFF, 0, \_SB.PCI0.ISA.LNKE, 0 }, Package () { 0x000CFFFF, 1, \_SB.PCI0.ISA.LNKF, 0 },
                Package () { 0x000CFFFF, 2, \_SB.PCI0.ISA.LNKG, 0 }, Package () { 0x000CFFFF, 3, \_SB.PCI0.ISA.LNKH, 0 },
                Package () { 0x000DFFFF, 0, \_SB.PCI0.ISA.LNKF, 0 }, Package () { 0x000DFFFF, 1, \_SB.PCI0.ISA.LNKG, 0 },
                Package () { 0x000DFFFF, 2, \_SB.PCI0.ISA.LNKH, 0 }, Package () { 0x000DFFFF, 3, \_SB.PCI0.ISA.LNKE, 0 },
                Package () { 0x000EFFFF, 0, \_SB.PCI0.ISA.LNKG, 0 }, Package () { 0x000EFFFF, 1, \_SB.PCI0.ISA.LNKH, 0 },
                Package () { 0x000EFFFF, 2, \_SB.PCI0.ISA.LNKE, 0 }, Package () { 0x000EFFFF, 3, \_SB.PCI0.ISA.LNKF, 0 },
                Package () { 0x000FFFFF, 0, \_SB.PCI0.ISA.LNKH, 0 }, Package () { 0x000FFFFF, 1, \_SB.PCI0.ISA.LNKE, 0 },
                Package () { 0x000FFFFF, 2, \_SB.PCI0.ISA.LNKF, 0 }, Package () { 0x000FFFFF, 3, \_SB.PCI0.ISA.LNKG, 0 },
                Package () { 0x0010FFFF, 0, \_SB.PCI0.ISA.LNKE, 0 }, Package () { 0x0010FFFF, 1, \_SB.PCI0.ISA.LNKF, 0 },
                Package () { 0x0010FFFF, 2, \_SB.PCI0.ISA.LNKG, 0 }, Package () { 0x0010FFFF, 3, \_SB.PCI0.ISA.LNKH, 0 },
                Package () { 0x0011FFFF, 0, \_SB.PCI0.ISA.LNKF, 0 }, Package () { 0x0011FFFF, 1, \_SB.PCI0.ISA.LNKG, 0 },
                Package () { 0x0011FFFF, 2, \_SB.PCI0.ISA.LNKH, 0 }, Package () { 0x0011FFFF, 3, \_SB.PCI0.ISA.LNKE, 0 },
                Package () { 0x0012FFFF, 0, \_SB.PCI0.ISA.LNKG, 0 }, Package () { 0x0012FFFF, 1, \_SB.PCI0.ISA.LNKH, 0 },
                Package () { 0x0012FFFF, 2, \_SB.PCI0.ISA.LNKE, 0 }, Package () { 0x0012FFFF, 3, \_SB.PCI0.ISA.LNKF, 0 },
                Package () { 0x0013FFFF, 0, \_SB.PCI0.ISA.LNKH, 0 }, Package () { 0x0013FFFF, 1, \_SB.PCI0.ISA.LNKE, 0 },
                Package () { 0x0013FFFF, 2, \_SB.PCI0.ISA.LNKF, 0 }, Package () { 0x0013FFFF, 3, \_SB.PCI0.ISA.LNKG, 0 },
                Package () { 0x0014FFFF, 0, \_SB.PCI0.ISA.LNKE, 0 }, Package () { 0x0014FFFF, 1, \_SB.PCI0.ISA.LNKF, 0 },
                Package () { 0x0014FFFF, 2, \_SB.PCI0.ISA.LNKG, 0 }, Package () { 0x0014FFFF, 3, \_SB.PCI0.ISA.LNKH, 0 },
                Package () { 0x0015FFFF, 0, \_SB.PCI0.ISA.LNKF, 0 }, Package () { 0x0015FFFF, 1, \_SB.PCI0.ISA.LNKG, 0 },
                Package () { 0x0015FFFF, 2, \_SB.PCI0.ISA.LNKH, 0 }, Package () { 0x0015FFFF, 3, \_SB.PCI0.ISA.LNKE, 0 },
                Package () { 0x0016FFFF, 0, \_SB.PCI0.ISA.LNKG, 0 }, Package () { 0x0016FFFF, 1, \_SB.PCI0.ISA.LNKH, 0 },
                Package () { 0x0016FFFF, 2, \_SB.PCI0.ISA.LNKE, 0 }, Package () { 0x0016FFFF, 3, \_SB.PCI0.ISA.LNKF, 0 },
                Package () { 0x0017FFFF, 0, \_SB.PCI0.ISA.LNKH, 0 }, Package () { 0x0017FFFF, 1, \_SB.PCI0.ISA.LNKE, 0 },
                Package () { 0x0017FFFF, 2, \_SB.PCI0.ISA.LNKF, 0 }, Package () { 0x0017FFFF, 3, \_SB.PCI0.ISA.LNKG, 0 },
                Package () { 0x0018FFFF, 0, \_SB.PCI0.ISA.LNKE, 0 }, Package () { 0x0018FFFF, 1, \_SB.PCI0.ISA.LNKF, 0 },
                Package () { 0x0018FFFF, 2, \_SB.PCI0.ISA.LNKG, 0 }, Package () { 0x0018FFFF, 3, \_SB.PCI0.ISA.LNKH, 0 },
                Package () { 0x0019FFFF, 0, \_SB.PCI0.ISA.LNKA, 0 }, Package () { 0x0019FFFF, 1, \_SB.PCI0.ISA.LNKB, 0 },
                Package () { 0x0019FFFF, 2, \_SB.PCI0.ISA.LNKC, 0 }, Package () { 0x0019FFFF, 3, \_SB.PCI0.ISA.LNKD, 0 },
                Package () { 0x001AFFFF, 0, \_SB.PCI0.ISA.LNKA, 0 }, Package () { 0x001AFFFF, 1, \_SB.PCI0.ISA.LNKB, 0 },
                Package () { 0x001AFFFF, 2, \_SB.PCI0.ISA.LNKC, 0 }, Package () { 0x001AFFFF, 3, \_SB.PCI0.ISA.LNKD, 0 },
                Package () { 0x001BFFFF, 0, \_SB.PCI0.ISA.LNKA, 0 }, Package () { 0x001BFFFF, 1, \_SB.PCI0.ISA.LNKB, 0 },
                Package () { 0x001BFFFF, 2, \_SB.PCI0.ISA.LNKC, 0 }, Package () { 0x001BFFFF, 3, \_SB.PCI0.ISA.LNKD, 0 },
                Package () { 0x001CFFFF, 0, \_SB.PCI0.ISA.LNKA, 0 }, Package () { 0x001CFFFF, 1, \_SB.PCI0.ISA.LNKB, 0 },
                Package () { 0x001CFFFF, 2, \_SB.PCI0.ISA.LNKC, 0 }, Package () { 0x001CFFFF, 3, \_SB.PCI0.ISA.LNKD, 0 },
                Package () { 0x001DFFFF, 0, \_SB.PCI0.ISA.LNKA, 0 }, Package () { 0x001DFFFF, 1, \_SB.PCI0.ISA.LNKB, 0 },
                Package () { 0x001DFFFF, 2, \_SB.PCI0.ISA.LNKC, 0 }, Package () { 0x001DFFFF, 3, \_SB.PCI0.ISA.LNKD, 0 },
                Package () { 0x001EFFFF, 0, \_SB.PCI0.ISA.LNKA, 0 }, Package () { 0x001EFFFF, 1, \_SB.PCI0.ISA.LNKB, 0 },
                Package () { 0x001EFFFF, 2, \_SB.PCI0.ISA.LNKC, 0 }, Package () { 0x001EFFFF, 3, \_SB.PCI0.ISA.LNKD, 0 },
                Package () { 0x001FFFFF, 0, \_SB.PCI0.ISA.LNKA, 0 }, Package () { 0x001FFFFF, 1, \_SB.PCI0.ISA.LNKB, 0 },
                Package () { 0x001FFFFF, 2, \_SB.PCI0.ISA.LNKC, 0 }, Package () { 0x001FFFFF, 3, \_SB.PCI0.ISA.LNKD, 0 }
            })

            Device (MCFG)                                       // the ECAM window is not for devices
            {
                Name (_HID, EisaId ("PNP0C02"))
                Name (_UID, 1)
                Name (_CRS, ResourceTemplate ()
                {
                    Memory32Fixed (ReadWrite, 0xB0000000, 0x10000000)
                })
            }

            Device (ISA)                                        // the LPC bridge
            {
                Name (_ADR, 0x001F0000)

                OperationRegion (PIRQ, PCI_Config, 0x60, 0x0C)
                Field (PIRQ, ByteAcc, NoLock, Preserve)
                {
                    PRQA, 8, PRQB, 8, PRQC, 8, PRQD, 8,
                    Offset (0x08),
                    PRQE, 8, PRQF, 8, PRQG, 8, PRQH, 8
                }

                // Of a link: status, possible and current interrupt, and the register after _SRS.
                Method (LSTA, 1) { If (Arg0 & 0x80) { Return (0x09) } Return (0x0B) }
                Name (LPRS, ResourceTemplate () { Interrupt (, Level, ActiveHigh, Shared) { 5, 10, 11 } })
                Name (LBUF, ResourceTemplate () { Interrupt (, Level, ActiveHigh, Shared) { 0 } })
                Method (LCRS, 1, Serialized)
                {
                    CreateDWordField (LBUF, 5, IRQN)          // the interrupt number
                    IRQN = Arg0 & 0x0F
                    Return (LBUF)
                }
                Method (LSRS, 1)
                {
                    CreateDWordField (Arg0, 5, IRQN)
                    Return (IRQN)
                }

                Device (LNKA)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 0)
                    Method (_STA) { Return (LSTA (PRQA)) }
                    Method (_PRS) { Return (LPRS) }
                    Method (_CRS) { Return (LCRS (PRQA)) }
                    Method (_DIS) { PRQA |= 0x80 }
                    Method (_SRS, 1) { PRQA = LSRS (Arg0) }
                }
                Device (LNKB)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 1)
                    Method (_STA) { Return (LSTA (PRQB)) }
                    Method (_PRS) { Return (LPRS) }
                    Method (_CRS) { Return (LCRS (PRQB)) }
                    Method (_DIS) { PRQB |= 0x80 }
                    Method (_SRS, 1) { PRQB = LSRS (Arg0) }
                }
                Device (LNKC)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 2)
                    Method (_STA) { Return (LSTA (PRQC)) }
                    Method (_PRS) { Return (LPRS) }
                    Method (_CRS) { Return (LCRS (PRQC)) }
                    Method (_DIS) { PRQC |= 0x80 }
                    Method (_SRS, 1) { PRQC = LSRS (Arg0) }
                }
                Device (LNKD)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 3)
                    Method (_STA) { Return (LSTA (PRQD)) }
                    Method (_PRS) { Return (LPRS) }
                    Method (_CRS) { Return (LCRS (PRQD)) }
                    Method (_DIS) { PRQD |= 0x80 }
                    Method (_SRS, 1) { PRQD = LSRS (Arg0) }
                }
                Device (LNKE)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 4)
                    Method (_STA) { Return (LSTA (PRQE)) }
                    Method (_PRS) { Return (LPRS) }
                    Method (_CRS) { Return (LCRS (PRQE)) }
                    Method (_DIS) { PRQE |= 0x80 }
                    Method (_SRS, 1) { PRQE = LSRS (Arg0) }
                }
                Device (LNKF)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 5)
                    Method (_STA) { Return (LSTA (PRQF)) }
                    Method (_PRS) { Return (LPRS) }
                    Method (_CRS) { Return (LCRS (PRQF)) }
                    Method (_DIS) { PRQF |= 0x80 }
                    Method (_SRS, 1) { PRQF = LSRS (Arg0) }
                }
                Device (LNKG)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 6)
                    Method (_STA) { Return (LSTA (PRQG)) }
                    Method (_PRS) { Return (LPRS) }
                    Method (_CRS) { Return (LCRS (PRQG)) }
                    Method (_DIS) { PRQG |= 0x80 }
                    Method (_SRS, 1) { PRQG = LSRS (Arg0) }
                }
                Device (LNKH)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 7)
                    Method (_STA) { Return (LSTA (PRQH)) }
                    Method (_PRS) { Return (LPRS) }
                    Method (_CRS) { Return (LCRS (PRQH)) }
                    Method (_DIS) { PRQH |= 0x80 }
                    Method (_SRS, 1) { PRQH = LSRS (Arg0) }
                }

                Device (PIC)
                {
                    Name (_HID, EisaId ("PNP0000"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0020, 0x0020, 0, 2)
                        IO (Decode16, 0x00A0, 0x00A0, 0, 2)
                        IO (Decode16, 0x04D0, 0x04D0, 0, 2)
                        IRQNoFlags () { 2 }
                    })
                }
                Device (DMAC)
                {
                    Name (_HID, EisaId ("PNP0200"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0000, 0x0000, 0, 0x10)
                        IO (Decode16, 0x0081, 0x0081, 0, 0x0F)
                        IO (Decode16, 0x00C0, 0x00C0, 0, 0x20)
                        DMA (Compatibility, NotBusMaster, Transfer8) { 4 }
                    })
                }
                Device (PIT)
                {
                    Name (_HID, EisaId ("PNP0100"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0040, 0x0040, 0, 4)
                        IRQNoFlags () { 0 }
                    })
                }
                Device (RTC)
                {
                    Name (_HID, EisaId ("PNP0B00"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0070, 0x0070, 1, 8)
                        IRQNoFlags () { 8 }
                    })
                }
                Device (SPKR)
                {
                    Name (_HID, EisaId ("PNP0800"))
                    Name (_CRS, ResourceTemplate () { IO (Decode16, 0x0061, 0x0061, 0, 1) })
                }
                Device (FPU)
                {
                    Name (_HID, EisaId ("PNP0C04"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x00F0, 0x00F0, 0, 1)
                        IRQNoFlags () { 13 }
                    })
                }
                Device (KBD)
                {
                    Name (_HID, EisaId ("PNP0303"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0060, 0x0060, 1, 1)
                        IO (Decode16, 0x0064, 0x0064, 1, 1)
                        IRQNoFlags () { 1 }
                    })
                }
                Device (MOU)
                {
                    Name (_HID, EisaId ("PNP0F13"))
                    Name (_CRS, ResourceTemplate () { IRQNoFlags () { 12 } })
                }
                Device (FDC0)
                {
                    Name (_HID, EisaId ("PNP0700"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x03F2, 0x03F2, 0, 4)
                        IO (Decode16, 0x03F7, 0x03F7, 0, 1)
                        IRQNoFlags () { 6 }
                        DMA (Compatibility, NotBusMaster, Transfer8) { 2 }
                    })
                }
                Device (COM1)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 1)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x03F8, 0x03F8, 0, 8)
                        IRQNoFlags () { 4 }
                    })
                }
                Device (COM2)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 2)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x02F8, 0x02F8, 0, 8)
                        IRQNoFlags () { 3 }
                    })
                }
                Device (FWCF)
                {
                    Name (_HID, "QEMU0002")
                    Name (_CRS, ResourceTemplate () { IO (Decode16, 0x0510, 0x0510, 1, 0x0C) })
                }
                Device (BOAR)                                   // ports of the board itself
                {
                    Name (_HID, EisaId ("PNP0C02"))
                    Name (_UID, 2)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0092, 0x0092, 0, 1)
                        IO (Decode16, 0x00B2, 0x00B2, 0, 2)
                        IO (Decode16, 0x0402, 0x0402, 0, 1)
                        IO (Decode16, 0x0600, 0x0600, 0, 0x80)
                    })
                }
            }
        }

        Device (HPET)
        {
            Name (_HID, EisaId ("PNP0103"))
            Name (_UID, 0)
            OperationRegion (CAPS, SystemMemory, 0xFED00000, 0x08)
            Field (CAPS, DWordAcc, Lock, Preserve) { VEND, 32, PERI, 32 }
            Method (_STA, 0, NotSerialized)     // -machine hpet=off: nothing answers
            {
                If (LEqual (PERI, 0xFFFFFFFF)) { Return (0x00) }
                Return (0x0F)
            }
            Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadOnly, 0xFED00000, 0x0400) })
        }
    }
}
