// A peer over TCP that is gone without a word: its machine, or the network to it.

import Foundation
import Testing
import TestSupport

@Suite(.timed(seconds: 300)) struct VanishedPeerTests {
    /// Seconds after which one that has vanished is gone at the latest.
    private static let most = 60.0

    @Test(
        "one that has vanished is gone within a minute; one that does not read stays",
        .enabled(if: Scale.isNightly, "takes over a minute"),
        .enabled(if: NetworkPair.canBeMade, "needs root and network namespaces"))
    func vanished() throws {
        let network = try NetworkPair()
        let daemon = try DaemonProcess(
            [
                "--listen", "tcp:10.253.1.2:7000", "--listen", "tcp:10.253.2.2:7000",
                "--log-level", "debug", "--loops", "2",
            ], through: network.runsFar)
        let onlooker = try daemon.text()
        let size: UInt64 = 64 << 20
        #expect(try onlooker.ask("alloc a \(size)") == "OK")
        #expect(try onlooker.ask("fill a 0 \(size) 7") == "OK")
        func connect(_ cable: Int) throws -> FrameClient {
            let client = try network.nearby {
                try FrameClient(RawSocket(port: 7000, address: "10.253.\(cable).2", seconds: 150))
            }
            #expect(try client.alloc("", size: 1).status == 0)
            return client
        }
        func ask(_ client: FrameClient, times: UInt64 = 1) throws {
            for cookie in 0..<times {
                try client.socket.send(TestFrame(8, cookie: cookie, name: "a", size: size).bytes)
            }
        }
        let idle = try connect(1)
        let reading = try connect(1)
        let shut = try connect(1)
        let live = try connect(2)
        for client in [shut, live] {
            try ask(client)
            #expect(try client.socket.receive(exactly: 40).count == 40)
        }
        // The windows have shut for good.
        sleep(5)
        try ask(reading, times: 2000)
        let reader = reading.socket
        nonisolated(unsafe) var count = 0
        let thread = Thread {
            while let bytes = try? reader.receive(1 << 20), !bytes.isEmpty { count += bytes.count }
        }
        thread.start()
        #expect(eventually { count > 10 << 20 })
        let start = Date()
        try network.pull(1)
        let isGone = try eventually(within: VanishedPeerTests.most) {
            try onlooker.stats()["connections"] == "2"
        }
        let seconds = Date().timeIntervalSince(start)
        print("the last one was gone after \(seconds) s")
        #expect(isGone, "\(daemon.log)")
        #expect(try onlooker.stats()["allocations"] == "2")
        let log = daemon.log
        #expect(log.components(separatedBy: "reason=the other side does not answer").count == 3)
        // Longer than a vanished one may stay.
        let rest = VanishedPeerTests.most + 15 - seconds
        if rest > 0 { usleep(UInt32(rest * 1_000_000)) }
        #expect(try onlooker.stats()["connections"] == "2")
        for _ in 0..<size >> 20 {
            let piece = try live.socket.receive(exactly: 1 << 20)
            #expect(piece.allSatisfy { $0 == 7 })
        }
        #expect(try live.call("ping").status == 0)
        withExtendedLifetime([idle, reading, shut]) {}
    }
}
