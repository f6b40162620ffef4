// Times as people write them: 30, 500ms, 50us, 5m, 1h.

/// Reads and writes spans of time, in milliseconds unless said otherwise.
enum TimeSpan {
    private static let units: [(suffix: String, microseconds: UInt64)] = [
        ("", 1_000_000), ("us", 1), ("ms", 1000), ("s", 1_000_000), ("m", 60_000_000),
        ("min", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000),
    ]
    /// A year, so that adding one to any clock can't overflow.
    private static let longest: UInt64 = 366 * 86_400_000_000

    /// Reads a span of time.
    ///
    /// - Parameter text: Digits, then nothing (seconds), `us`, `ms`, `s`, `m` or `min`, `h`, `d`.
    /// - Returns: Milliseconds; 0 stands for "off" wherever times are set.
    /// - Throws: What is wrong with the text.
    static func parse(_ text: String) throws(InvalidValue) -> UInt64 {
        let span = try parseMicroseconds(text)
        guard span % 1000 == 0 else {
            throw InvalidValue(reason: "\(quoted(text)) is not a whole number of milliseconds")
        }
        return span / 1000
    }

    /// As `parse`, in microseconds.
    static func parseMicroseconds(_ text: String) throws(InvalidValue) -> UInt64 {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let suffix = text.dropFirst(digits.count).lowercased()
        guard !digits.isEmpty, let unit = units.first(where: { $0.suffix == suffix }) else {
            throw InvalidValue(
                reason: "\(quoted(text)) is not a time (such as 30 for seconds, 500ms, 5m)")
        }
        let (span, overflow) = (UInt64(digits) ?? .max)
            .multipliedReportingOverflow(by: unit.microseconds)
        guard !overflow, span <= longest else {
            throw InvalidValue(reason: "\(quoted(text)) is longer than a year")
        }
        return span
    }

    /// Writes a span so that `parse` gives the same number: whole seconds, or milliseconds.
    static func text(_ milliseconds: UInt64) -> String {
        milliseconds % 1000 == 0 ? String(milliseconds / 1000) : "\(milliseconds)ms"
    }

    /// Writes a span so that `parseMicroseconds` gives the same number.
    static func text(microseconds: UInt64) -> String {
        microseconds % 1000 == 0 ? text(microseconds / 1000) : "\(microseconds)us"
    }
}
