// The daemon that most tests of the client share, and names that no two tests share.

import Smalloc
import Synchronization
import TestSupport

/// One daemon for all tests that don't hurt it.
enum SharedDaemon {
    private static let started = Result { try DaemonProcess(tcp: true) }

    static var process: DaemonProcess { get throws { try started.get() } }

    static var address: String { get throws { "unix:\(try process.path)" } }

    /// A connection of the test's own.
    static func connect(_ options: Smalloc.Options = Smalloc.Options()) throws -> Smalloc {
        try Smalloc(address, options: options)
    }

    static func connectAsync(
        _ options: Smalloc.Options = Smalloc.Options()
    ) async throws -> AsyncSmalloc {
        try await AsyncSmalloc(address, options: options)
    }

    private static let counter = Atomic<Int>(0)

    /// A name that nothing else has.
    static func name(_ stem: String = "test") -> String {
        "\(stem)/\(counter.add(1, ordering: .relaxed).newValue)"
    }
}

/// A number of a test's daemon, as `stats` tells it.
func allocations(_ smalloc: Smalloc) throws -> UInt64 {
    let stats = try smalloc.stats()
    return stats.lines.first { $0.key == "allocations" }.flatMap { UInt64($0.value) } ?? .max
}

/// The error that a body throws, nil if none.
func failure(_ body: () throws(SmallocError) -> Void) -> SmallocError? {
    do throws(SmallocError) {
        try body()
        return nil
    } catch { return error }
}

/// The error that an async body throws, nil if none.
func failure(_ body: () async throws(SmallocError) -> Void) async -> SmallocError? {
    do throws(SmallocError) {
        try await body()
        return nil
    } catch { return error }
}
