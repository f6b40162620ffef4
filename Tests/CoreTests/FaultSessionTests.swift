// Each call for memory fails in turn under random sessions: every request is answered or its
// connection ends, other connections go on, and the accounts are right at the end.
// SMALLOC_SEED repeats a run, SMALLOC_EVENTS makes it longer.

import CFaults
import CSmalloc
import class Foundation.ProcessInfo
import Testing
import TestSupport

@testable import SmallocCore
@testable import SmallocWire

@Suite("Sessions whose calls for memory fail", .timed(seconds: 300))
struct FaultSessionTests {
    private static let steps = 90
    /// Scripts that are played, each of them once for each call that fails.
    private static let scripts: Int = {
        let wanted = ProcessInfo.processInfo.environment["SMALLOC_EVENTS"].flatMap { Int($0) }
        return max(1, (wanted ?? 0) / 100_000)
    }()
    /// Calls that fail in turn at most: no script makes as many.
    private static let turnsMax = 100_000

    @Test(
        "each call that fails is an answer or an end, and leaves nothing behind",
        arguments: [
            SMALLOC_FAULT_ALLOCATE, SMALLOC_FAULT_MAP, SMALLOC_FAULT_ADVISE, SMALLOC_FAULT_UNMAP,
            SMALLOC_FAULT_FILE,
        ])
    func each(_ kind: Int) {
        var random = SplitMix(for: "sessions whose calls of kind \(kind) fail")
        for _ in 0..<FaultSessionTests.scripts { play(kind, random.next()) }
    }

    private func play(_ kind: Int, _ seed: UInt64) {
        let script = FaultScript.make(seed: seed, steps: FaultSessionTests.steps)
        var failures = 0
        var quietRuns = 0
        for number in 0..<FaultSessionTests.turnsMax where quietRuns < 2 {
            // One call, or all from then on; of every thread, or of the loop's.
            let count: Int32 = number % 4 == 3 ? 1_000_000 : 1
            let run = FaultRun()
            faults_arm(Int32(kind), Int32(number), count, number % 2 == 0)
            run.play(script)
            let failed = faults_disarm()
            run.end()
            if let fault = run.fault {
                Issue.record("call \(number) of kind \(kind), seed \(seed): \(fault)")
                return
            }
            failures += Int(failed)
            quietRuns = failed == 0 ? quietRuns + 1 : 0
        }
        #expect(failures > 0)
    }

    @Test("growth of the output that fails ends its connection, and no other")
    func output() {
        let seed = SplitMix(for: "sessions whose output can't grow").seed
        let script = FaultScript.make(seed: seed, steps: 2 * FaultSessionTests.steps)
        var ends = 0
        for shift in 0..<20 {
            let run = FaultRun()
            for loop in run.loops { loop.output.pointee.capacityMax = 128 << (10 + shift) }
            run.play(script)
            for loop in run.loops { loop.output.pointee.capacityMax = .max }
            run.end()
            if let fault = run.fault {
                Issue.record("growth \(shift), seed \(seed): \(fault)")
                return
            }
            ends += run.ends
            if run.ends == 0 { break }
        }
        #expect(ends > 0)
    }
}

/// One run of a script: a registry, two loops, three connections that play it, and one on each loop
/// that must not be disturbed.
private final class FaultRun {
    let registry: Registry
    let loops: [LoopContext]
    private var peers: [TestPeer] = []
    /// Cookies of the requests of each that wait.
    private var waiting = [Set<UInt64>](repeating: [], count: FaultScript.connectionCount)
    private let keepers: [TestPeer]
    private let baseSize: UInt64
    /// What is wrong, if anything.
    private(set) var fault: String?
    /// Connections that ended for want of memory.
    private(set) var ends = 0
    private var beats: UInt64 = 0

    /// What is kept by each that must not be disturbed: inline, in an arena, in a mapping.
    private static let kept: [[UInt8]] = {
        var random = SplitMix(seed: 1)
        return [random.bytes(64), random.bytes(100_000), random.bytes(3_000_000)]
    }()

    init() {
        var limits = Limits()
        limits.memorySizeMax = 48 << 20
        limits.lengthSizeMax = 8 << 20
        registry = Registry(limits: SharedLimits(limits), loops: 2, warmSizeMax: 1 << 20)!
        loops = [
            LoopContext(registry: registry, index: 0), LoopContext(registry: registry, index: 1),
        ]
        baseSize = registry.budget.usedSize
        keepers = loops.map { TestPeer($0) }
        for (index, keeper) in keepers.enumerated() {
            keeper.feed(frame(.hello))
            for (number, bytes) in FaultRun.kept.enumerated() {
                let name = "kept/\(index)/\(number)"
                keeper.call(.alloc, type: 2, name: name, size: UInt64(bytes.count))
                keeper.call(
                    .write, handle: UInt32(number + 1), size: UInt64(bytes.count), payload: bytes)
            }
        }
        peers = (0..<FaultScript.connectionCount).map { connect($0) }
    }

    private func connect(_ connection: Int) -> TestPeer {
        let peer = TestPeer(loops[connection % 2], takesDescriptors: true)
        if connection < FaultScript.binaryCount {
            peer.feed(frame(.hello))
            if replies(in: peer.output)?.last?.status != .ok { fault = "no greeting" }
            peer.output = []
        }
        return peer
    }

    func play(_ script: [FaultScript.Step]) {
        for (index, step) in script.enumerated() where fault == nil {
            let peer = peers[step.connection]
            peer.output = []
            waiting[step.connection].formUnion(step.waits)
            peer.feed(step.bytes)
            peer.session.checkInvariants()
            for loop in loops { loop.tellWaits() }
            for connection in peers.indices {
                let isAsker = connection == step.connection
                check(connection, isAsker ? step : nil, at: index)
            }
            peer.closeDescriptors()
            beat(index)
            if index % 8 == 0 { registry.checkInvariants() }
        }
        endAll()
        // The reclaiming thread's calls fail, too.
        let isIdle = eventually { registry.mappings.isIdle }
        if !isIdle { fault = fault ?? "memory does not come back" }
    }

    /// Ends the connections of the script, and disposes of what it made.
    private func endAll() {
        for peer in peers {
            peer.session.end(peer.loop)
            peer.isClosed = true
        }
        for loop in loops { loop.tellWaits() }
        peers = []
        dispose(FaultScript.names)
    }

    private func dispose(_ names: [String]) {
        let peer = TestPeer(loops[0])
        peer.feed(frame(.hello))
        for name in names {
            let reply = peer.call(.dispose, name: name)
            if ![.ok, .noData].contains(reply.status) { fault = fault ?? "\(reply)" }
        }
        peer.session.end(loops[0])
        peer.isClosed = true
    }

    /// Looks at what a connection was answered: to a step of its own, and to what waited.
    private func check(_ connection: Int, _ step: FaultScript.Step?, at index: Int) {
        let peer = peers[connection]
        if peer.isClosed {
            ended(peer)
            waiting[connection] = []
            peers[connection] = connect(connection)
        } else if let wrong = wrong(with: peer, connection, step) {
            fault = fault ?? "step \(index), connection \(connection): \(wrong)"
        }
        peers[connection].output = []
    }

    /// What is missing of the answers to a step, or too much.
    private func wrong(
        with peer: TestPeer, _ connection: Int, _ step: FaultScript.Step?
    ) -> String? {
        guard peer.pause == .none, !peer.isBusy, peer.tail.isEmpty else {
            return "it stands still: \(peer.pause)"
        }
        if connection < FaultScript.binaryCount {
            guard let replies = replies(in: peer.output) else { return "no frames" }
            // Those that wait are answered in any order, each once, now or later.
            let cookies = replies.map(\.header.cookie).filter {
                waiting[connection].remove($0) == nil
            }
            let asked = step?.cookies.filter { step?.waits.contains($0) == false } ?? []
            let held = peer.session.caller.waits?.count ?? 0
            guard held == waiting[connection].count else {
                return "\(waiting[connection].count) are not answered, \(held) wait"
            }
            return cookies == asked ? nil : "asked \(asked), answered \(cookies)"
        }
        guard let step else { return peer.output.isEmpty ? nil : "a line that none asked for" }
        let lines = peer.output.split(separator: 0x0A).filter {
            $0.starts(with: "OK".utf8) || $0.starts(with: "ERR ".utf8)
        }
        return lines.count == step.lines ? nil : "\(step.lines) lines, \(lines.count) answers"
    }

    /// A connection that ends has a reason, and its output is whole.
    private func ended(_ peer: TestPeer) {
        ends += 1
        if peer.session.failure != .outOfMemory {
            fault = "it ended by \(peer.session.failure?.name ?? "nothing")"
        }
        peer.session.end(peer.loop)
    }

    /// Those that must not be disturbed write and read, which takes no memory.
    private func beat(_ index: Int) {
        for keeper in keepers {
            beats += 1
            let payload = numbers(beats)
            let written = keeper.call(.write, handle: 1, size: 8, payload: payload)
            let read = keeper.call(.read, handle: 1, size: 8)
            if written.status != .ok || read.payload != payload {
                fault = fault ?? "step \(index): another connection: \(written) \(read)"
            }
        }
    }

    /// Checks what the others have, disposes of it, and looks whether nothing is left.
    func end() {
        for keeper in keepers {
            for (number, bytes) in FaultRun.kept.enumerated() {
                let read = keeper.call(
                    .read, handle: UInt32(number + 1), size: UInt64(bytes.count))
                let skipped = number == 0 ? 8 : 0
                if read.payload.dropFirst(skipped) != bytes.dropFirst(skipped) {
                    fault = fault ?? "another connection's data: \(read.header)"
                }
            }
        }
        for keeper in keepers {
            keeper.session.end(keeper.loop)
            keeper.isClosed = true
        }
        dispose((0..<2).flatMap { loop in (0..<3).map { "kept/\(loop)/\($0)" } })
        // What the kernel did not take back is tried again.
        let isBack = eventually {
            registry.returnMemory()
            registry.mappings.drain()
            return registry.budget.usedSize == baseSize && registry.mappings.refused.count == 0
        }
        if !isBack { fault = fault ?? "\(registry.budget.usedSize) bytes are left" }
        if registry.budget.allocationCount != 0 {
            fault = fault ?? "\(registry.budget.allocationCount) allocations are left"
        }
        registry.checkInvariants()
        if registry.waits.checkInvariants() != 0 { fault = fault ?? "waits are left" }
    }
}
