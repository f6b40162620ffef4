// How much of a test to run, and how long to wait for something.

import Foundation

/// Scales the counts of tests.
public enum Scale {
    /// `SMALLOC_SCALE`; 1 fits `make test`, 10 to 100 a night.
    public static let factor: Double = {
        let value = ProcessInfo.processInfo.environment["SMALLOC_SCALE"].flatMap { Double($0) }
        return max(value ?? 1, 0.01)
    }()

    /// Whether tests run that take minutes: `make nightly` sets `SMALLOC_NIGHTLY`.
    public static let isNightly = ProcessInfo.processInfo.environment["SMALLOC_NIGHTLY"] != nil

    /// `count`, scaled, at least 1.
    public static func count(_ count: Int) -> Int {
        max(1, Int(Double(count) * factor))
    }
}

/// Asks again and again until `condition` holds. False: it did not within `seconds`.
///
/// The limit is for a slow, busy machine; where all is well the answer comes at once.
public func eventually(within seconds: Double = 20, _ condition: () throws -> Bool) rethrows -> Bool
{
    let end = Date().addingTimeInterval(seconds)
    while true {
        if try condition() { return true }
        guard Date() < end else { return false }
        usleep(5000)
    }
}
