// A number of elements as it stands on the command line.

import ArgumentParser

/// Digits, perhaps with a sign before them, and K, M, G, T, P or E for powers of 1024 behind.
///
/// A negative number, or one that no machine counts to, is a number nevertheless: it is outside of
/// every allocation, and to be told so by whoever knows the allocation, as in text mode.
struct ElementCount: ExpressibleByArgument {
    /// As typed.
    let word: String
    /// Elements; -1 for all that is negative, the largest number for all that is larger.
    let value: Int
    /// Whether the value is not quite what was typed: no allocation has so many elements.
    let isClamped: Bool

    init?(argument: String) {
        let isNegative = argument.hasPrefix("-")
        let magnitude = argument.dropFirst(isNegative ? 1 : 0)
        let digits = magnitude.prefix { $0.isASCII && $0.isNumber }
        let suffix = magnitude.dropFirst(digits.count).uppercased()
        let suffixes = ["", "K", "M", "G", "T", "P", "E"]
        guard !digits.isEmpty, let power = suffixes.firstIndex(of: suffix) else { return nil }
        // Digits alone are no number only where there are too many of them.
        let (product, overflow) = (Int(digits) ?? .max).multipliedReportingOverflow(
            by: 1 << (10 * power))
        word = argument
        value = isNegative && product != 0 ? -1 : overflow ? .max : product
        isClamped = value < 0 || value == .max
    }
}
