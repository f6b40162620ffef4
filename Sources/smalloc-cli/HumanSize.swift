// Sizes and times for people.

/// A size in bytes as people read it: `0 B`, `512 B`, `1.5 KiB`, `12 MiB`.
func humanSize(_ size: some BinaryInteger) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    var value = Double(size)
    var unit = 0
    // What would be printed as 1024 belongs to the next unit.
    while value >= 1023.5, unit < units.count - 1 {
        value /= 1024
        unit += 1
    }
    if unit == 0 { return "\(size) B" }
    return value < 9.95
        ? "\(decimal(value, 1)) \(units[unit])" : "\(decimal(value, 0)) \(units[unit])"
}

/// A number with so many digits after the point.
func decimal(_ value: Double, _ digits: Int) -> String {
    // What no whole number holds, or not exactly; it may come from a daemon that is none.
    guard abs(value) < 1e12 else { return "\(value)" }
    let scale = [1.0, 10, 100, 1000][min(digits, 3)]
    let whole = Int((value * scale).rounded())
    guard digits > 0 else { return String(whole) }
    let fraction = String(whole.magnitude % UInt(scale))
    let zeros = String(repeating: "0", count: digits - fraction.utf8.count)
    return "\(value < 0 ? "-" : "")\(whole.magnitude / UInt(scale)).\(zeros)\(fraction)"
}

/// A span of seconds: `7s`, `3m05s`, `2h14m`, `3d07h`.
func humanTime(_ seconds: Double) -> String {
    let whole = Int(min(max(seconds, 0), 1e9).rounded())
    func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
    if whole < 60 { return "\(whole)s" }
    if whole < 3600 { return "\(whole / 60)m\(two(whole % 60))s" }
    if whole < 172_800 { return "\(whole / 3600)h\(two(whole / 60 % 60))m" }
    return "\(whole / 86_400)d\(two(whole / 3600 % 24))h"
}

/// Milliseconds since 1970 as `2026-11-23T08:00:00Z`.
///
/// The calendar's arithmetic is Howard Hinnant's "days from civil", backwards.
func timestamp(_ milliseconds: Int64) -> String {
    let seconds = milliseconds / 1000
    let days = Int(seconds / 86_400) + 719_468
    let era = days / 146_097
    let dayOfEra = days % 146_097
    let yearOfEra =
        (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * shifted + 2) / 5 + 1
    let month = shifted < 10 ? shifted + 3 : shifted - 9
    let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    let time = Int(seconds % 86_400)
    func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
    return "\(year)-\(two(month))-\(two(day))T"
        + "\(two(time / 3600)):\(two(time / 60 % 60)):\(two(time % 60))Z"
}
