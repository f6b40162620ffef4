// A number of elements as it stands on the command line.

import ArgumentParser

/// Digits, perhaps with a sign before them, and a unit of the daemon's settings behind.
///
/// A negative number, or one that no machine counts to, is a number nevertheless: it is outside of
/// every allocation, and to be told so by whoever knows the allocation, as in text mode.
struct ElementCount {
    /// As typed.
    let word: String
    /// Elements; -1 for all that is negative, the largest number for all that is larger.
    let value: Int
    /// Whether the value is not quite what was typed: no allocation has so many elements.
    let isClamped: Bool

    /// The units, for people.
    static let units = "K, M, G, T, P, E or KiB, MiB, ... (powers of 1024), KB, MB, ... (of 1000)"

    /// Reads a number; nil: it is none.
    init?(argument: String) {
        let isNegative = argument.hasPrefix("-")
        let magnitude = argument.dropFirst(isNegative ? 1 : 0)
        let digits = magnitude.prefix { $0.isASCII && $0.isNumber }
        let unit = magnitude.dropFirst(digits.count).uppercased()
        guard !digits.isEmpty, let size = ElementCount.size(ofUnit: unit) else { return nil }
        // Digits alone are no number only where there are too many of them.
        let (product, overflow) = (Int(digits) ?? .max).multipliedReportingOverflow(by: size)
        word = argument
        value = isNegative && product != 0 ? -1 : overflow ? .max : product
        isClamped = value < 0 || value == .max
    }

    private static func size(ofUnit unit: String) -> Int? {
        if unit.isEmpty || unit == "B" { return 1 }
        let prefixes = ["K", "M", "G", "T", "P", "E"]
        guard let power = prefixes.firstIndex(of: String(unit.prefix(1))) else { return nil }
        switch unit.dropFirst() {
        case "", "IB": return 1 << (10 * (power + 1))
        case "B": return (0...power).reduce(1) { size, _ in size * 1000 }
        default: return nil
        }
    }

    /// Reads a number from the command line, or says what numbers look like.
    @Sendable
    static func parse(_ word: String) throws -> ElementCount {
        guard let count = ElementCount(argument: word) else {
            throw ValidationError("a number is needed, as 4096 or 64K; units: \(units)")
        }
        return count
    }
}
