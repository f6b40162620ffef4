// Each limit of the daemon: its own error, and all goes on.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct LimitTests {
    /// Test 12 of the reliability bar.
    @Test("memory: refused at the limit, within 2 %, and given back by dispose")
    func memory() throws {
        let limit = 64 << 20
        let daemon = try DaemonProcess(["--memory-max", "\(limit)"])
        let client = try daemon.frames()
        for size in [1 << 20, 10_000, 1000] {
            var names: [String] = []
            var refusal: TestFrame
            while true {
                let name = "m/\(size)/\(names.count)"
                refusal = try client.call(
                    "alloc", flags: 2, type: 2, name: name, size: UInt64(size))
                if refusal.status != 0 { break }
                names.append(name)
            }
            #expect(FrameClient.statusName(refusal) == "memoryLimit")
            // Small ones have a header and a name beside their bytes.
            #expect(names.count <= limit / size)
            let overhead = size < 65_536 ? 80 : 0
            #expect(names.count * (size + overhead) > limit / 100 * 94, "\(names.count) of \(size)")
            let used = Int(try daemon.text().stats()["memory_used_bytes"] ?? "") ?? 0
            #expect(used <= limit && used + size > limit / 100 * 98, "\(used) of \(limit)")
            for name in names { #expect(try client.call("dispose", name: name).status == 0) }
            // Freed memory may still be on its way back for a moment.
            #expect(
                try eventually {
                    try client.call(
                        "alloc", flags: 2, type: 2, name: "all", size: UInt64(limit / 2)
                    )
                    .status == 0
                })
            #expect(try client.call("dispose", name: "all").status == 0)
        }
    }

    @Test("memory of many names is counted, given free by dispose, and used again")
    func memoryOfNames() throws {
        let daemon = try DaemonProcess()
        let text = try daemon.text()
        let count = Scale.count(40_000)
        let long = String(repeating: "n", count: 245)
        func name(_ index: Int) -> String { long + String(1_000_000_000 + index) }
        func each(_ line: (Int) -> String) throws {
            for start in stride(from: 0, to: count, by: 500) {
                let indices = start..<min(count, start + 500)
                try text.socket.send(Array(indices.map { line($0) + "\n" }.joined().utf8))
                for _ in indices { #expect(try text.socket.receiveLine() == "OK") }
            }
        }
        func used() throws -> Int { Int(try text.stats()["memory_used_bytes"] ?? "") ?? -1 }
        let before = (resident: try daemon.figures().residentSize, used: try used())
        var peak = before.resident
        for round in 0..<3 {
            try each { "alloc \(name($0)) 0" }
            let now = try daemon.figures().residentSize
            if round == 0 { peak = now }
            #expect(now - peak < DaemonProcess.growth(2 << 20), "round \(round)")
            #expect(try text.stats()["allocations"] == "\(count)")
            // What is counted is what is taken, and a name costs what the documentation says.
            let taken = now - before.resident
            #expect(taken / count < DaemonProcess.growth(255 + 130), "\(taken / count)")
            #expect(try used() - before.used > (DaemonProcess.isSanitized ? 0 : taken / 10 * 7))
            try each { "dispose \(name($0))" }
            #expect(try used() - before.used < count * 40, "the tables of names may stay")
        }
        // A sanitizer keeps what is freed.
        var now = 0
        let isBack = try eventually {
            now = try daemon.figures().residentSize
            // The tables, and a slab here and there: 2.1 MB were seen, of 13 at the peak.
            return now < DaemonProcess.growth(before.resident + count * 40 + (1 << 20))
        }
        #expect(isBack, "\(before.resident) before, \(peak) at most, \(now) after")
    }

    @Test("allocations in all, named and anonymous")
    func allocations() throws {
        let daemon = try DaemonProcess(["--allocations-max", "5"])
        let client = try daemon.frames()
        for index in 0..<3 { #expect(try client.alloc("a\(index)", size: 1).status == 0) }
        for _ in 0..<2 { #expect(try client.alloc("", size: 1).status == 0) }
        #expect(FrameClient.statusName(try client.alloc("b", size: 1)) == "allocationLimit")
        #expect(FrameClient.statusName(try client.alloc("", size: 1)) == "allocationLimit")
        #expect(FrameClient.statusName(try client.alloc("a0", size: 1)) == "alreadyExists")
        let text = try daemon.text()
        #expect(try text.ask("alloc b 1").hasPrefix("ERR allocationLimit Error: "))
        #expect(try client.call("close", handle: 5).status == 0)
        #expect(try text.ask("alloc b 1") == "OK")
    }

    @Test("handles of a connection, told before the allocation is made")
    func handles() throws {
        let daemon = try DaemonProcess(["--handles-max", "3"])
        let client = try daemon.frames()
        for index in 0..<3 { #expect(try client.alloc("a\(index)", size: 1).status == 0) }
        #expect(FrameClient.statusName(try client.alloc("b", size: 1)) == "handleLimit")
        #expect(FrameClient.statusName(try client.call("open", name: "a0")) == "handleLimit")
        #expect(FrameClient.statusName(try client.call("stat", name: "b")) == "noData")
        #expect(try client.call("alloc", flags: 2, type: 2, name: "b", size: 1).status == 0)
        #expect(try daemon.frames().call("open", name: "a0").status == 0)
        #expect(try client.call("close", handle: 1).status == 0)
        #expect(try client.call("open", name: "b").status == 0)
    }

    @Test("frame size, of requests and of replies; the stream goes on behind them")
    func frameSize() throws {
        let daemon = try DaemonProcess(["--frame-size-max", "65536"])
        let client = try daemon.frames()
        #expect(client.greeting["frameSizeMax"] == 65_536)
        #expect(try client.alloc("a", size: 200_000).status == 0)
        let data = [UInt8](repeating: 5, count: 65_536)
        #expect(try client.call("write", handle: 1, size: 65_536, payload: data).status == 0)
        #expect(
            FrameClient.statusName(
                try client.call("write", handle: 1, size: 65_537, payload: data + [1]))
                == "frameTooLarge")
        #expect(
            FrameClient.statusName(
                try client.call("write", handle: 1, size: 200_000, payload: data + data + data))
                == "frameTooLarge")
        #expect(try client.call("read", handle: 1, size: 65_536).payload == data)
        #expect(
            FrameClient.statusName(try client.call("read", handle: 1, size: 65_537))
                == "frameTooLarge")
        let ranges = littleEndian(0, 40_000, 0, 40_000)
        #expect(
            FrameClient.statusName(
                try client.call("read", flags: 1, handle: 1, size: 2, payload: ranges))
                == "frameTooLarge")
        #expect(
            FrameClient.statusName(try client.call("read", handle: 1, size: 200_001))
                == "outOfRange")
        #expect(try client.call("ping").status == 0)
    }

    @Test(
        "frame size, where it is less than what is answered at once",
        arguments: [4096, 50_000, 65_535], [false, true])
    func smallFrames(limit: Int, byName: Bool) throws {
        let daemon = try DaemonProcess(["--frame-size-max", "\(limit)"])
        let client = try daemon.frames()
        #expect(try client.alloc("a", size: 100_000).status == 0)
        func ask(_ operation: String, _ size: Int, _ data: [UInt8] = []) throws -> TestFrame {
            try client.call(
                operation, handle: byName ? 0 : 1, name: byName ? "a" : "", size: UInt64(size),
                payload: data)
        }
        // A name is a part of the payload.
        let most = limit - (byName ? 1 : 0)
        let data = (0...most).map { UInt8(truncatingIfNeeded: $0 % 251 + 1) }
        for size in [most + 1, 65_536] {
            let more = data + [UInt8](repeating: 1, count: 65_536)
            let refused = try ask("write", size, Array(more.prefix(size)))
            #expect(FrameClient.statusName(refused) == "frameTooLarge", "\(size)")
        }
        #expect(try ask("read", most).payload == [UInt8](repeating: 0, count: most))
        #expect(try ask("write", most, Array(data.prefix(most))).status == 0)
        #expect(try ask("read", most).payload == Array(data.prefix(most)))
        for size in [limit + 1, 65_536] {
            #expect(FrameClient.statusName(try ask("read", size)) == "frameTooLarge", "\(size)")
        }
        #expect(try client.call("ping").status == 0)
    }

    @Test("line size: the rest of the line is skipped, the session goes on")
    func lineSize() throws {
        let daemon = try DaemonProcess(["--line-size-max", "1000"])
        let text = try daemon.text()
        #expect(try text.ask("alloc a 2000") == "OK")
        let most = "write a 0 text:" + String(repeating: "x", count: 1000 - 15)
        #expect(try text.ask(most) == "OK")
        #expect(try text.ask(most + "y").hasPrefix("ERR lineTooLong RangeError: "))
        #expect(try text.ask("ping") == "OK pong")
        #expect(try text.ask(String(repeating: "z", count: 100_000)).hasPrefix("ERR lineTooLong "))
        #expect(try text.ask("read a 984 2") == "OK 120 0")
        // Told before the line has ended; one error for it, however long it is.
        try text.socket.drip([UInt8](repeating: 0x61, count: 1500))
        try text.socket.send(line: "")
        #expect(try text.socket.receiveLine().hasPrefix("ERR lineTooLong "))
        #expect(try text.ask("ping") == "OK pong")
    }

    @Test("name size: of names that are given, in both modes; what is there keeps its own")
    func nameSize() throws {
        let daemon = try DaemonProcess(["--name-size-max", "5"])
        let text = try daemon.text()
        let client = try daemon.frames()
        #expect(client.greeting["nameSizeMax"] == 5)
        #expect(try text.ask("alloc abcde 4") == "OK")
        #expect(try text.ask("alloc abcdef 4").hasPrefix("ERR invalidName TypeError: "))
        #expect(try text.ask("rename abcde abcdef").hasPrefix("ERR invalidName TypeError: "))
        #expect(try text.ask("read abcdef").hasPrefix("ERR noData Error: "))
        #expect(FrameClient.statusName(try client.alloc("abcdef", size: 1)) == "invalidName")
        #expect(try client.call("open", name: "abcde").status == 0)
        let longer = try client.call("rename", handle: 1, payload: Array("fghijk".utf8))
        #expect(FrameClient.statusName(longer) == "invalidName")
        #expect(try client.call("rename", handle: 1, payload: Array("fghij".utf8)).status == 0)
        #expect(try text.ask("read fghij") == "OK 0 0 0 0")
    }

    @Test("kMaxLength, which is bytes")
    func lengths() throws {
        let daemon = try DaemonProcess(["--length-max", "1000"])
        let text = try daemon.text()
        #expect(try text.ask("alloc a 1000") == "OK")
        #expect(try text.ask("alloc b 1001") == "ERR tooLarge RangeError: n > kMaxLength")
        #expect(try text.ask("alloc c 125 Double") == "OK")
        #expect(try text.ask("alloc d 126 Double") == "ERR tooLarge RangeError: n > kMaxLength")
        #expect(
            try text.ask("truncate a 1001")
                == "ERR tooLarge RangeError: truncate length is bigger than kMaxLength")
        #expect(try text.ask("truncate c 125") == "OK")
        #expect(
            try text.ask("truncate c 126")
                == "ERR tooLarge RangeError: truncate length is bigger than kMaxLength")
        #expect(try daemon.frames().greeting["lengthMax"] == 1000)
    }

    @Test("requests in flight and output: paused, never refused", arguments: ["1", "2", "7"])
    func requestsInFlight(most: String) throws {
        let daemon = try DaemonProcess([
            "--requests-in-flight-max", most, "--output-size-max", "4096",
        ])
        let client = try daemon.frames()
        #expect(try client.alloc("a", size: 100_000).status == 0)
        var bytes: [UInt8] = []
        for cookie in 1...2000 {
            let size = cookie % 50 == 0 ? 100_000 : 8
            bytes += TestFrame(8, cookie: UInt64(cookie), handle: 1, size: UInt64(size)).bytes
        }
        try client.socket.send(bytes)
        for cookie in 1...2000 {
            let reply = try client.socket.receiveFrame()
            #expect(reply.cookie == UInt64(cookie) && reply.status == 0)
        }
    }

    @Test("every limit is told in the greeting and in stats")
    func told() throws {
        let daemon = try DaemonProcess([
            "--memory-max", "101M", "--length-max", "51M", "--allocations-max", "1001",
            "--connections-max", "102", "--frame-size-max", "103K", "--requests-in-flight-max",
            "104",
            "--handles-max", "105", "--output-size-max", "106K", "--line-size-max", "107K",
            "--name-size-max", "110", "--idle-timeout", "108", "--request-timeout", "109",
        ])
        let expected: [(greeting: String, key: String, value: Int)] = [
            ("memoryMax", "limit_memory_bytes", 101 << 20),
            ("lengthMax", "limit_length_bytes", 51 << 20),
            ("allocationsMax", "limit_allocations", 1001),
            ("connectionsMax", "limit_connections", 102),
            ("frameSizeMax", "limit_frame_bytes", 103 << 10),
            ("requestsInFlightMax", "limit_requests_in_flight", 104),
            ("handlesMax", "limit_handles", 105),
            ("outputSizeMax", "limit_output_bytes", 106 << 10),
            ("lineSizeMax", "limit_line_bytes", 107 << 10),
            ("nameSizeMax", "limit_name_bytes", 110),
            ("idleTimeoutMilliseconds", "limit_idle_milliseconds", 108_000),
            ("requestTimeoutMilliseconds", "limit_request_milliseconds", 109_000),
        ]
        let greeting = try daemon.frames().greeting
        let stats = try daemon.text().stats()
        for entry in expected {
            #expect(greeting[entry.greeting] == UInt64(entry.value), "\(entry.greeting)")
            #expect(stats[entry.key] == "\(entry.value)", "\(entry.key)")
        }
        #expect(greeting["versionMin"] == 1 && greeting["versionMax"] == 1)
        #expect(greeting["rangesMax"] == 1024)
        #expect(greeting["waitsMax"] == 4096 && stats["limit_waits"] == "4096")
        #expect(
            (greeting["sharesMax"] ?? 0) > 100
                && stats["limit_shares"] == greeting["sharesMax"].map { "\($0)" })
        #expect(greeting["atomicSizeMax"] == 65_536)
    }
}
