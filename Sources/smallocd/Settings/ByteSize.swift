// Sizes as people write them: 4096, 64M, 1GiB, 80%.

/// Reads and writes sizes in bytes.
enum ByteSize {
    /// Powers of 1024 as systemd and most daemons mean them, of 1000 where the unit says so.
    private static let units: [(suffix: String, size: UInt64)] = [
        ("", 1), ("b", 1),
        ("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("t", 1 << 40),
        ("kib", 1 << 10), ("mib", 1 << 20), ("gib", 1 << 30), ("tib", 1 << 40),
        ("kb", 1000), ("mb", 1_000_000), ("gb", 1_000_000_000), ("tb", 1_000_000_000_000),
    ]

    /// Reads a size.
    ///
    /// - Parameters:
    ///   - text: Digits, then nothing (bytes), `K`, `M`, `G`, `T` or `KiB`, `MiB`, `GiB`, `TiB`
    ///     (powers of 1024), `KB`, `MB`, `GB`, `TB` (powers of 1000), in any case, or `%`.
    ///   - whole: Bytes that 100 % stands for. nil: a percentage is refused.
    /// - Returns: Bytes.
    /// - Throws: What is wrong with the text.
    static func parse(
        _ text: String, percentageOf whole: UInt64? = nil
    ) throws(InvalidValue) -> UInt64 {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let suffix = text.dropFirst(digits.count).lowercased()
        guard let number = UInt64(digits) else {
            let isHuge = !digits.isEmpty
            throw InvalidValue(
                reason: "\(quoted(text)) "
                    + (isHuge ? "is too large" : "is not a size (such as 4096, 64M, 1GiB)"))
        }
        if suffix == "%", let whole {
            guard (1...100).contains(number) else {
                throw InvalidValue(reason: "\(quoted(text)) is not from 1% to 100%")
            }
            // Divided first: a size near 2^64 must not overflow, and a percent of 100 bytes lost is
            // nothing beside a machine's memory.
            return whole / 100 * number + whole % 100 * number / 100
        }
        guard let unit = units.first(where: { $0.suffix == suffix }) else {
            let words =
                suffix == "%" ? "can't be a percentage" : "is not a size (such as 4096, 64M, 1GiB)"
            throw InvalidValue(reason: "\(quoted(text)) \(words)")
        }
        let (size, overflow) = number.multipliedReportingOverflow(by: unit.size)
        guard !overflow else { throw InvalidValue(reason: "\(quoted(text)) is too large") }
        return size
    }

    /// Writes a size so that `parse` gives the same number: in the largest unit that divides it.
    static func text(_ size: UInt64) -> String {
        for (suffix, shift) in [("T", 40), ("G", 30), ("M", 20), ("K", 10)] as [(String, UInt64)]
        where size != 0 && size & ((1 << shift) - 1) == 0 {
            return "\(size >> shift)\(suffix)"
        }
        return String(size)
    }
}
