// Freezes that the kernel holds up, as clients have pages in hand for good: they hold no other
// request up, and no freeze for ever.

import CFaults
import Foundation
import Glibc
import Smalloc
import Testing
import TestSupport

@Suite("Freezes", .timed(seconds: 120))
struct FreezeTests {
    /// Allocations of which a page is in a pipe.
    private final class Pinned {
        let names: [String]
        private var maps: [Smalloc.Mapping<UInt8>] = []
        private var ends: [Int32] = []

        init(_ daemon: DaemonProcess, count: Int) throws {
            names = (0..<count).map { "pinned/\($0)" }
            let client = try daemon.frames()
            let mapper = try Smalloc("unix:\(daemon.path)")
            for name in names {
                // Named, shareable.
                let made = try client.call("alloc", flags: 6, type: 2, name: name, size: 4096)
                #expect(made.status == 0)
                let wrote = try client.call("write", name: name, size: 1, payload: [1])
                #expect(wrote.status == 0)
                let map = try mapper.open(name).map(UInt8.self, writable: false)
                var pair: [Int32] = [0, 0]
                try #require(pipe(&pair) == 0)
                let isTaken = map.withUnsafeBufferPointer {
                    faults_take_mapped_page($0.baseAddress, pair[1])
                }
                try #require(isTaken)
                maps.append(map)
                ends += pair
            }
        }

        deinit { for end in ends { close(end) } }
    }

    private func seconds(_ body: () throws -> Void) rethrows -> Double {
        let start = DispatchTime.now().uptimeNanoseconds
        try body()
        return Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
    }

    @Test("freezes that are held up hold no fill up, and other freezes for their turns only")
    func heldUp() throws {
        let daemon = try DaemonProcess(["--loops", "2"])
        let pinned = try Pinned(daemon, count: 12)
        let client = try daemon.frames()
        let size: UInt64 = 2 << 20
        #expect(try client.alloc("a", size: size).status == 0)
        let attackers = try pinned.names.map { name in
            let attacker = try daemon.frames()
            for _ in 0..<100 { try attacker.socket.send(TestFrame(23, name: name).bytes) }
            return attacker
        }
        usleep(300_000)
        var times: [Double] = []
        for _ in 0..<10 {
            let taken = try seconds {
                let reply = try client.call("fill", name: "a", size: size, payload: [7])
                #expect(reply.status == 0)
            }
            times.append(taken)
        }
        #expect(times.sorted()[5] < 0.1, "\(times) s for fills")
        let made = try client.call("alloc", flags: 6, type: 2, name: "honest", size: 4096)
        #expect(made.status == 0)
        #expect(try client.call("write", name: "honest", size: 1, payload: [1]).status == 0)
        let taken = try seconds {
            let reply = try client.call("freeze", name: "honest")
            #expect(reply.status == 0)
        }
        #expect(taken < 6, "\(taken) s for a freeze")
        // Connections that end leave nothing behind that waits.
        for attacker in attackers { attacker.socket.close() }
        let after = try client.call("alloc", flags: 6, type: 2, name: "after", size: 4096)
        #expect(after.status == 0)
        #expect(try client.call("write", name: "after", size: 1, payload: [1]).status == 0)
        let last = try seconds {
            let reply = try client.call("freeze", name: "after")
            #expect(reply.status == 0)
        }
        #expect(last < 1, "\(last) s for a freeze")
        for name in pinned.names {
            #expect(
                eventually {
                    (try? client.call("write", name: name, size: 1, payload: [2]))?.status == 0
                })
        }
    }

    @Test("more freezes than may wait are busy at once, and a stop waits for none")
    func tooMany() throws {
        let daemon = try DaemonProcess(["--loops", "2"])
        let pinned = try Pinned(daemon, count: 140)
        let attackers = try pinned.names.map { name in
            let attacker = try daemon.frames()
            try attacker.socket.send(TestFrame(23, name: name).bytes)
            return attacker
        }
        let taken = seconds {
            #expect(eventually { attackers.filter { $0.socket.isReadable }.count >= 11 })
        }
        #expect(taken < 3, "\(taken) s")
        let refused = attackers.filter { $0.socket.isReadable }
        for attacker in refused {
            #expect(FrameClient.statusName(try attacker.socket.receiveFrame()) == "busy")
        }
        #expect(try daemon.text().ask("ping") == "OK pong")
        #expect(daemon.stop() == 0)
    }
}
