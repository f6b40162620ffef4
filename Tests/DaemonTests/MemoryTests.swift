// What memory shows and what it can't hold.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct MemoryTests {
    @Test(
        "a large allocation that the machine can't back is an error, not a kill",
        .enabled(if: !DaemonProcess.isSanitized, "a sanitizer wants terabytes of addresses"))
    func unbacked() throws {
        let daemon = try DaemonProcess(["--memory-max", "1000000G"], virtualSize: 8 << 30)
        let client = try daemon.frames()
        #expect(try client.alloc("kept", size: 1000).status == 0)
        for size in [16 << 30, 1 << 40, 1 << 46] as [UInt64] {
            let reply = try client.alloc("x", size: size)
            #expect(FrameClient.statusName(reply) == "outOfMemory", "\(size)")
            #expect(try client.call("stat", name: "x").status != 0)
            #expect(try client.call("stat", name: "kept").status == 0)
        }
        // What no process can address is over any kMaxLength.
        #expect(FrameClient.statusName(try client.alloc("x", size: 1 << 49)) == "tooLarge")
        #expect(try client.alloc("x", size: 1 << 20).status == 0)
        #expect(try daemon.text().stats()["allocations"] == "2")
    }

    @Test("more than the machine has is refused before it is touched")
    func overTheMachine() throws {
        let daemon = try DaemonProcess()
        let client = try daemon.frames()
        let most = client.greeting["memoryMax"] ?? 0
        let machine = UInt64(sysconf(Int32(_SC_PHYS_PAGES))) * UInt64(sysconf(Int32(_SC_PAGESIZE)))
        #expect(most > 1 << 20 && most <= machine)
        #expect(FrameClient.statusName(try client.alloc("x", size: most + 1)) == "tooLarge")
        let half = try client.alloc("half", size: most / 2)
        #expect(half.status == 0)
        let rest = try client.alloc("rest", size: most / 2 + (1 << 20))
        #expect(FrameClient.statusName(rest) == "memoryLimit")
        #expect(try daemon.figures().residentSize < 200 << 20)
    }

    /// A small version of test 15 of the reliability bar.
    @Test("fresh memory never shows old bytes, whatever was there before")
    func secrecy() throws {
        let daemon = try DaemonProcess(["--memory-max", "64M"])
        let client = try daemon.frames()
        var random = SplitMix(for: "secrecy")
        let sizes: [UInt64] = [
            1, 16, 100, 1000, 4096, 65_535, 65_536, 65_537, 300_000, 1 << 20, 5 << 20,
        ]
        for _ in 0..<Scale.count(300) {
            let size = sizes.randomElement(using: &random) ?? 1
            let reply = try client.alloc("s", size: size)
            try #require(reply.status == 0)
            let fresh = try client.call("read", handle: reply.handle, size: size).payload
            try #require(fresh.count == Int(size) && fresh.allSatisfy { $0 == 0 }, "\(size)")
            #expect(
                try client.call("fill", handle: reply.handle, size: size, payload: [0xAA]).status
                    == 0)
            if Bool.random(using: &random) {
                let less = UInt64.random(in: 0...size, using: &random)
                #expect(try client.call("truncate", handle: reply.handle, size: less).status == 0)
            }
            #expect(try client.call("dispose", handle: reply.handle).status == 0)
        }
    }
}
