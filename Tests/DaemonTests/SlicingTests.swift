// Large data moves in fine slices while others ask for small things, and in coarse ones while
// nobody does.
//
// The daemon's system calls show it. The client lets it rest between pieces as large as a socket
// holds, so that the daemon always could move all of one in one call.

import Foundation
import Synchronization
import Testing
import TestSupport

@Suite(.timed) struct SlicingTests {
    private static let size = 16 << 20

    /// How large data moves, and between which counts of calls fine slices differ from coarse
    /// ones: seen were 555 and 83, 499 and 168.
    enum Kind: String, CaseIterable {
        case received
        case sent

        var fineMin: Int { 400 }
        var coarseMax: Int { 350 }
    }

    /// One that asks for small things as fast as it gets them, on a thread of its own.
    private final class Asker: @unchecked Sendable {
        private let client: FrameClient
        private let isOver = Atomic(false)
        private let hasEnded = Atomic(false)
        let count = Atomic<Int>(0)

        init(_ client: FrameClient) { self.client = client }

        func start() {
            Thread { [self] in
                while !isOver.load(ordering: .relaxed), (try? client.call("ping")) != nil {
                    count.add(1, ordering: .relaxed)
                }
                hasEnded.store(true, ordering: .releasing)
            }.start()
        }

        func stop() -> Bool {
            isOver.store(true, ordering: .relaxed)
            return eventually { hasEnded.load(ordering: .acquiring) }
        }
    }

    /// System calls of the daemon that move `size` bytes, those for the asker aside.
    private func calls(_ kind: Kind, isAsked: Bool) throws -> Int {
        let daemon = try DaemonProcess(["--loops", "1"])
        let client = try daemon.frames()
        let size = UInt64(SlicingTests.size)
        let asker = Asker(try daemon.frames())
        #expect(try client.alloc("a", size: size).status == 0)
        // The last small request is over by then.
        usleep(20_000)
        if isAsked { asker.start() }
        if isAsked { #expect(eventually { asker.count.load(ordering: .relaxed) > 10 }) }
        let (before, asked) = (try made(daemon, kind), asker.count.load(ordering: .relaxed))
        switch kind {
        case .received: try send(client)
        case .sent:
            try client.socket.send(TestFrame(8, handle: 1, size: size).bytes)
            try receive(client, Int(size))
        }
        let made = try made(daemon, kind) - before
        let done = asker.count.load(ordering: .relaxed) - asked
        if isAsked { #expect(asker.stop()) }
        return made - done
    }

    private func send(_ client: FrameClient) throws {
        var left = SlicingTests.size
        let frame = TestFrame(
            9, handle: 1, size: UInt64(left), payload: [UInt8](repeating: 1, count: left)
        ).bytes
        left = frame.count
        while left > 0 {
            let count = min(left, 200 << 10)
            try client.socket.send(Array(frame[(frame.count - left)...].prefix(count)))
            left -= count
            usleep(4000)
        }
        #expect(try client.socket.receiveFrame().status == 0)
    }

    private func receive(_ client: FrameClient, _ size: Int) throws {
        var left = size / 10 * 9
        while left > 0 {
            usleep(4000)
            left -= try client.socket.receive(1 << 20).count
        }
    }

    /// Reads or writes that the daemon has made.
    private func made(_ daemon: DaemonProcess, _ kind: Kind) throws -> Int {
        let text = try String(contentsOfFile: "/proc/\(daemon.pid)/io", encoding: .utf8)
        let key = kind == .received ? "syscr:" : "syscw:"
        let line = text.split(separator: "\n").first { $0.hasPrefix(key) }
        return Int(line?.split(separator: " ").last ?? "") ?? 0
    }

    @Test(
        "large data moves in fine slices while another one asks for small things",
        arguments: Kind.allCases)
    func fine(_ kind: Kind) throws {
        var made: [Int] = []
        // On a busy machine the asker may not have its turn for a while.
        let isFine = try mostly { _ in
            made.append(try calls(kind, isAsked: true))
            return made.last ?? 0 >= kind.fineMin
        }
        #expect(isFine, "\(made)")
    }

    @Test(
        "large data moves in coarse slices while nobody else asks", arguments: Kind.allCases)
    func coarse(_ kind: Kind) throws {
        var made: [Int] = []
        let isCoarse = try mostly { _ in
            made.append(try calls(kind, isAsked: false))
            return made.last ?? .max <= kind.coarseMax
        }
        #expect(isCoarse, "\(made)")
    }
}
