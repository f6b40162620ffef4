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

    /// How many times longer than in `make test` a test may take.
    static let slowness: Double =
        max(factor, 1) * (DaemonProcess.isSanitized ? 10 : 1) * (isNightly ? 2 : 1)

    /// `count`, scaled, at least 1.
    public static func count(_ count: Int) -> Int {
        max(1, Int(Double(count) * factor))
    }
}

/// Whether something holds most times: asked until one answer has the majority.
///
/// For what another process may hide by taking the processor for a moment, and what is nevertheless
/// wrong if it is seen more often than not.
///
/// - Parameters:
///   - count: How often it is asked at most; odd.
///   - condition: Gets the number of the attempt, from 0.
public func mostly(of count: Int = 3, _ condition: (Int) throws -> Bool) rethrows -> Bool {
    var (yes, no) = (0, 0)
    while yes <= count / 2, no <= count / 2 {
        if try condition(yes + no) { yes += 1 } else { no += 1 }
    }
    return yes > no
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
