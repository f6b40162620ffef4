// Each system call that the daemon makes for a client fails in turn, under random sessions: an
// answer or an end every time, no other connection is disturbed, the accounts are right afterwards.
// SMALLOC_SEED repeats a run; SMALLOC_SCALE is how many calls of each kind fail.

import Foundation
import Testing
import TestSupport

// A sanitizer does not stand another malloc beside its own.
@Suite(.timed(seconds: 120), .disabled(if: DaemonProcess.isSanitized))
struct FaultTests {
    static let memoryMax: UInt64 = 256 << 20
    /// Calls of each kind that fail in turn, if a session makes as many.
    private static let turns = Scale.count(8)

    @Test("a system call that fails is an answer or an end", arguments: FaultKind.allCases)
    func each(_ kind: FaultKind) throws {
        let library = try #require(FaultControl.library, "there is no clang to compile with")
        let folder = try DaemonProcess.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let control = try FaultControl(folder: folder)
        let daemon = try DaemonProcess(
            ["--log-level", "debug", "--loops", "2", "--memory-max", "\(FaultTests.memoryMax)"],
            tcp: true, folder: folder,
            environment: ["LD_PRELOAD": library, "SMALLOC_TEST_FAULTS": control.path])
        var random = SplitMix(for: "calls of kind \(kind) that fail")
        let seed = random.seed
        let run = try FaultedDaemon(daemon, control, kind)
        var failures = 0
        for turn in 0..<FaultTests.turns {
            let number = kind.numbers[turn % kind.numbers.count]
            let failed: Int
            do {
                // One after the other, from the second half on with gaps, now and then many.
                failed = try run.session(
                    kind, after: turn < FaultTests.turns / 2 ? turn : turn * turn / 2,
                    count: turn % 4 == 3 ? kind.countMax : 1,
                    number: number,
                    spares: turn % 2 == 0, &random)
            } catch {
                Issue.record("\(kind) \(turn) errno \(number) seed \(seed): \(error) \(daemon.log)")
                return
            }
            failures += failed
        }
        #expect(failures > 0 || !kind.isMade)
        // What ends the process at last is a thread, which may not be had.
        control.arm(kind, after: 0, number: kind.numbers[0])
        #expect(daemon.stop() == 0, "\(daemon.log)")
    }
}

/// A daemon with faults, and a connection that must not be disturbed.
private final class FaultedDaemon {
    private let daemon: DaemonProcess
    private let control: FaultControl
    private var observer: Observer
    /// The observer's socket in the daemon.
    private var observed: Int32 = -1
    private var base: [String: UInt64] = [:]

    private static let accounts = ["allocations", "connections", "memory_used_bytes"]

    struct Wrong: Error, CustomStringConvertible {
        let description: String
    }

    init(_ daemon: DaemonProcess, _ control: FaultControl, _ kind: FaultKind) throws {
        self.daemon = daemon
        self.control = control
        observer = try Observer(daemon)
        // Without faults: tables grow, and stay. But threads are not to be had from the start.
        if kind == .thread { control.arm(.thread, after: 0, count: .max >> 33, number: EAGAIN) }
        var random = SplitMix(seed: 7)
        try FaultSession(daemon, random.next()).play {}
        try FaultedDaemon.dispose(observer.client)
        try noteObserved()
        base = ["allocations": 1, "connections": 1, "memory_used_bytes": try settledSize()]
    }

    /// Bytes charged when the session's connections have ended and no memory is kept warm.
    private func settledSize() throws -> UInt64 {
        let isSettled = try eventually {
            let accounts = try accounts()
            let stats = try observer.stats()
            // Descriptors that were on their way to a session count until it is looked for them.
            return accounts["connections"] == 1 && stats["memory_warm_bytes"] == 0
                && stats["memory_held_bytes"] == 0
        }
        guard isSettled else { throw Wrong(description: "it does not come to rest") }
        return try observer.usedSize()
    }

    private func accounts() throws -> [String: UInt64] {
        try FaultedDaemon.dropWarm(observer.client)
        return try observer.stats().filter { FaultedDaemon.accounts.contains($0.key) }
    }

    /// Warm memory, whose records are charged, goes for what would not fit beside it.
    private static func dropWarm(_ client: FrameClient) throws {
        let size = FaultTests.memoryMax - 65_536
        _ = try client.call("alloc", flags: 2, type: 2, name: "rest", size: size)
        _ = try client.call("dispose", name: "rest")
    }

    private func noteObserved() throws {
        control.arm(.read, after: 1 << 30)
        try observer.beat()
        observed = control.lastDescriptor
        control.disarm()
    }

    private static func dispose(_ client: FrameClient) throws {
        for name in FaultSession.names { _ = try client.call("dispose", name: name) }
    }

    /// Plays a random session in which calls fail.
    ///
    /// - Returns: How many have failed.
    func session(
        _ kind: FaultKind, after: Int, count: Int, number: Int32, spares: Bool,
        _ random: inout SplitMix
    ) throws -> Int {
        var isObserverHit = false
        let session = FaultSession(daemon, random.next())
        control.arm(
            kind, after: after, count: count, number: number, spared: spares ? observed : -1)
        try session.play {
            guard !isObserverHit else { return }
            do {
                try observer.beat()
            } catch RawSocketError.ended where !spares {
                // Only for a failure of its own.
                isObserverHit = true
            }
        }
        if kind.isOfMemory {
            // What is freed goes to the kernel, by calls that fail, too.
            do {
                let client = try daemon.frames()
                try FaultedDaemon.dispose(client)
                try FaultedDaemon.dropWarm(client)
                _ = try eventually { try client.stats()["memory_returning_bytes"] == 0 }
            } catch RawSocketError.ended {}
        }
        let failed = control.disarm()
        guard daemon.isRunning else { throw Wrong(description: "it has ended") }
        if isObserverHit {
            guard failed > 1 || control.failedDescriptor == observed else {
                throw Wrong(description: "the observer was ended by another's failure")
            }
            observer = try Observer(daemon, again: observer)
            try noteObserved()
        }
        try observer.beat()
        try FaultedDaemon.dispose(observer.client)
        guard try eventually({ try accounts() == base }) else {
            throw Wrong(description: "accounts \(try accounts()), before \(base)")
        }
        return failed
    }
}
