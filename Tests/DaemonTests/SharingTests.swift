// Several connections on the same allocations: handles, names, listings, atomicity.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct SharingTests {
    @Test("anonymous allocations go with their handle or their connection, named ones stay")
    func lifetimes() throws {
        let daemon = try DaemonProcess()
        let text = try daemon.text()
        let client = try daemon.frames()
        #expect(try client.alloc("", size: 100).handle == 1)
        #expect(try client.alloc("", size: 100).handle == 2)
        #expect(try client.alloc("", size: 100).handle == 3)
        #expect(try client.alloc("named", size: 100).handle == 4)
        #expect(try text.stats()["allocations"] == "4")
        #expect(try client.call("close", handle: 1).status == 0)
        #expect(try client.call("dispose", handle: 2).status == 0)
        #expect(try client.call("rename", handle: 3, payload: Array("kept".utf8)).status == 0)
        #expect(try client.alloc("", size: 100).status == 0)
        #expect(try text.stats()["allocations"] == "3")
        client.socket.close()
        #expect(try eventually { try text.stats()["allocations"] == "2" })
        #expect(try text.ask("stat kept").hasPrefix("OK name=kept type=Uint8 length=100 "))
        #expect(try text.ask("stat named").contains(" handles=0 "))
    }

    @Test("each allocation of a connection has a time of its own")
    func created() throws {
        let daemon = try DaemonProcess()
        let client = try daemon.frames()
        func created(_ name: String) throws -> UInt64 {
            let payload = try client.call("stat", name: name).payload
            return payload.dropFirst(name.utf8.count).prefix(8).reversed().reduce(0) {
                $0 << 8 | UInt64($1)
            }
        }
        let start = UInt64(Date().timeIntervalSince1970) * 1000
        #expect(try client.alloc("a", size: 1).status == 0)
        // Whole seconds are told.
        usleep(1_100_000)
        #expect(try client.alloc("b", size: 1).status == 0)
        let end = UInt64(Date().timeIntervalSince1970) * 1000
        let (first, second) = (try created("a"), try created("b"))
        #expect(start <= first && first < second && second <= end, "\(first), \(second)")
    }

    @Test("a handle belongs to its connection and never sees another allocation")
    func handles() throws {
        let daemon = try DaemonProcess()
        let first = try daemon.frames()
        let second = try daemon.frames()
        #expect(try first.alloc("a", size: 4).handle == 1)
        #expect(FrameClient.statusName(try second.call("read", handle: 1, size: 1)) == "noData")
        let handle = try second.call("open", name: "a").handle
        #expect(try first.call("dispose", name: "a").status == 0)
        #expect(try first.alloc("a", size: 8).status == 0)
        for operation in ["read", "stat", "dispose", "truncate", "write"] {
            let reply = try second.call(operation, handle: handle)
            #expect(FrameClient.statusName(reply) == "noData", "\(operation)")
        }
    }

    @Test("what was answered is done for everybody, over any connection and loop")
    func answeredIsDone() throws {
        let daemon = try DaemonProcess(["--loops", "2"])
        // One of them is on the other loop.
        let clients = try (0..<3).map { _ in try daemon.text() }
        let size = 1 << 20
        for name in ["a", "b"] {
            #expect(try clients[0].ask("alloc \(name) \(size) uint8") == "OK")
        }
        for round in 0..<Scale.count(300) {
            let (asking, reading) = (clients[round % 3], clients[(round + 1 + round / 3 % 2) % 3])
            let value = round % 251 + 1
            #expect(try asking.ask("fill a 0 \(size) \(value)") == "OK")
            #expect(try reading.ask("read a \(size - 1) 1") == "OK \(value)", "round \(round)")
            #expect(try asking.ask("copy a 0 b 0 \(size)") == "OK")
            #expect(try reading.ask("read b \(size - 1) 1") == "OK \(value)", "round \(round)")
        }
    }

    @Test("who asks for a copy and is gone leaves nothing locked")
    func goneAtOnce() throws {
        let daemon = try DaemonProcess(["--loops", "2", "--log-level", "debug"])
        let text = try daemon.text()
        let size = 1 << 20
        for name in ["a", "b"] { #expect(try text.ask("alloc \(name) \(size) uint8") == "OK") }
        for round in 0..<Scale.count(100) {
            let value = round % 251 + 1
            #expect(try text.ask("fill a 0 \(size) \(value)") == "OK")
            let socket = try daemon.connect()
            try socket.send(Array("copy a 0 b 0 \(size)\n".utf8))
            socket.close()
            #expect(try eventually { try text.ask("read b \(size - 1) 1") == "OK \(value)" })
        }
    }

    @Test("a listing in pages tells every name once while others come and go")
    func pages() throws {
        let daemon = try DaemonProcess()
        let client = try daemon.frames()
        let other = try daemon.frames()
        let count = Scale.count(6000)
        for start in stride(from: 0, to: count, by: 1000) {
            let indices = start..<min(count, start + 1000)
            try client.socket.send(
                indices.flatMap { TestFrame(3, flags: 2, type: 2, name: "p/\($0)", size: 1).bytes })
            for _ in indices { #expect(try client.socket.receiveFrame().status == 0) }
        }
        for wanted in [0, 1, 7, 500] as [UInt64] {
            var seen: [String: Int] = [:]
            var cursor: UInt64 = 0
            var pages = 0
            repeat {
                let reply = try client.call("list", name: "p/", offset: cursor, size: wanted)
                try #require(reply.status == 0)
                var rest = reply.payload[...]
                for _ in 0..<reply.size {
                    let nameSize = Int(rest[rest.startIndex + 9])
                    let name = String(decoding: rest.dropFirst(10).prefix(nameSize), as: UTF8.self)
                    seen[name, default: 0] += 1
                    rest = rest.dropFirst(10 + nameSize)
                }
                #expect(rest.isEmpty)
                cursor = reply.offset
                pages += 1
                _ = try other.call("alloc", flags: 2, type: 2, name: "p/x\(pages)", size: 1)
                _ = try other.call("dispose", name: "p/x\(pages / 2)")
            } while cursor != 0
            for index in 0..<count { #expect(seen["p/\(index)"] == 1, "p/\(index) of \(wanted)") }
            #expect(seen.values.allSatisfy { $0 == 1 })
        }
        // In text all of it, however long.
        let text = try daemon.text()
        try text.socket.send(line: "list p/")
        var lines = 0
        while try text.socket.receiveLine().hasPrefix("ITEM p/") { lines += 1 }
        #expect(lines >= count)
    }

    /// How the bytes of an allocation are read.
    enum Reading: String, CaseIterable {
        case byHandle, byName, byNameBehindAnother, asText
    }

    @Test(
        "a write of up to 64 KiB is seen whole or not at all", arguments: [65_536, 1000],
        Reading.allCases)
    func atomicity(size: Int, reading: Reading) throws {
        let daemon = try DaemonProcess(["--loops", "2"])
        let owner = try daemon.frames()
        #expect(try owner.alloc("a", size: UInt64(size)).status == 0)
        let text = try daemon.text()
        let rounds = Scale.count(300)
        let writers = try (1...2).map { index in
            let client = try daemon.frames()
            let data = [UInt8](repeating: UInt8(index), count: size)
            return Thread {
                for _ in 0..<rounds {
                    _ = try? client.call("write", name: "a", size: UInt64(size), payload: data)
                }
            }
        }
        for writer in writers { writer.start() }
        func read() throws -> [UInt8] {
            switch reading {
            case .byHandle: return try owner.call("read", handle: 1, size: UInt64(size)).payload
            case .byName: return try owner.call("read", name: "a", size: UInt64(size)).payload
            case .byNameBehindAnother:
                let frame = TestFrame(8, name: "a", size: UInt64(size)).bytes
                try owner.socket.send(frame + frame)
                _ = try owner.socket.receiveFrame()
                return try owner.socket.receiveFrame().payload
            case .asText:
                let line = try text.ask("read a 0 \(size) hex")
                let digits = line.dropFirst("OK hex:".count).utf8
                #expect(digits.count == size * 2)
                // Each byte is 00, 01 or 02.
                return digits.enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
            }
        }
        while !writers.allSatisfy(\.isFinished) {
            let bytes = try read()
            guard let first = bytes.first, bytes.allSatisfy({ $0 == first }) else {
                Issue.record("a torn read")
                break
            }
        }
    }

    @Test("a read of up to 64 KiB that leaves in parts is of one moment all the same")
    func atomicParts() throws {
        let daemon = try DaemonProcess(["--loops", "2"])
        let owner = try daemon.frames()
        let size = 65_536
        #expect(try owner.alloc("a", size: UInt64(size)).status == 0)
        let writer = try daemon.frames()
        let reads = 48
        let thread = Thread {
            var value: UInt8 = 0
            while !Thread.current.isCancelled {
                value &+= 1
                _ = try? writer.call(
                    "write", name: "a", size: UInt64(size),
                    payload: [UInt8](repeating: value, count: size))
            }
        }
        thread.start()
        defer { thread.cancel() }
        for _ in 0..<Scale.count(20) {
            // More replies than a socket holds, so that most of them leave in two parts, the second
            // long after the first.
            let read = TestFrame(8, handle: 1, size: UInt64(size)).bytes
            try owner.socket.send((0..<reads).flatMap { _ in read })
            for _ in 0..<reads {
                let bytes = try owner.socket.receiveFrame().payload
                try #require(bytes.count == size)
                let first = bytes[0]
                try #require(bytes.allSatisfy { $0 == first }, "a torn read")
            }
        }
    }
}
