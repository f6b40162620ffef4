// The time of a lease on the command line, and as it is shown.

import ArgumentParser
import Smalloc

/// A time with its unit: `500ms`, `30s`, `10m`, `2h`, `1d`.
struct LeaseArgument: ExpressibleByArgument {
    /// More than 0.
    let milliseconds: UInt64

    private static let units: [(name: String, milliseconds: UInt64)] = [
        ("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000),
    ]

    init?(argument: String) {
        let digits = argument.prefix { $0.isASCII && $0.isNumber }
        guard let count = UInt64(digits), count > 0,
            let unit = LeaseArgument.units.first(where: {
                $0.name == argument.dropFirst(digits.count)
            })
        else { return nil }
        let (time, isOver) = count.multipliedReportingOverflow(by: unit.milliseconds)
        // Longer ones can't be told apart from for ever.
        guard !isOver, time <= UInt64(Int64.max) else { return nil }
        milliseconds = time
    }

    var lease: Smalloc.Lease { .idle(.milliseconds(Int64(milliseconds))) }
}

/// A time for people, to the millisecond below a second, and to the second above: `1h 2m 3s`.
func timeText(_ time: Duration) -> String {
    let (seconds, attoseconds) = time.components
    if seconds == 0 { return "\(attoseconds / 1_000_000_000_000_000)ms" }
    let parts = [
        (seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ]
    return parts.filter { $0.0 > 0 }.map { "\($0.0)\($0.1)" }.joined(separator: " ")
}

/// What is left of an allocation's lease; nil: it has none.
func leaseText(_ stat: Smalloc.Stat) -> String? {
    switch stat.lease {
    case nil: nil
    case .connection: "connection"
    case .idle(let time):
        "\(timeText(stat.leaseLeft ?? time)) left of \(timeText(time))"
    }
}

extension JSON {
    /// Milliseconds, or null.
    init(milliseconds time: Duration?) {
        guard let time else {
            self = .null
            return
        }
        let (seconds, attoseconds) = time.components
        let (whole, isOver) = seconds.multipliedReportingOverflow(by: 1000)
        self = isOver ? .null : .integer(Int(whole + attoseconds / 1_000_000_000_000_000))
    }
}
