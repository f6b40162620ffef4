// What else a session does: work for other threads, ends, errors of text mode.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Session", .timed)
struct SessionTests {
    @Test("an empty input is no trouble in any state")
    func emptyInput() {
        let peer = TestDaemon().connect()
        peer.feed([])
        #expect(peer.pause == .none && peer.output.isEmpty)
        peer.feedEnd()
        #expect(peer.output.isEmpty)
        let greeted = TestDaemon().greeted()
        greeted.feed([])
        greeted.feedEnd()
        #expect(greeted.output.isEmpty)
    }

    @Test("after quit nothing more is answered")
    func quit() {
        let peer = TestDaemon().greeted()
        peer.feed(frame(.quit, cookie: 3) + frame(.ping))
        #expect(replies(in: peer.output)?.map(\.header.cookie) == [3])
        #expect(peer.pause == .close)
        let text = TestDaemon().connect()
        text.feed("quit\nping\n")
        #expect(String(decoding: text.output, as: UTF8.self) == "OK bye\n")
        #expect(text.pause == .close)
    }

    @Test("a first byte below the space that is no blank is no line of text")
    func firstByte() {
        for byte in UInt8(0)...0x7F {
            let peer = TestDaemon().connect()
            peer.feed([byte])
            let isBlank = [0x09, 0x0A, 0x0D].contains(byte)
            #expect(peer.isClosed == (byte < 0x20 && !isBlank))
            if peer.isClosed {
                #expect(String(decoding: peer.output, as: UTF8.self).hasPrefix("ERR notSmalloc "))
            }
        }
    }

    @Test("after a line of another protocol nothing is executed, in whatever pieces it comes")
    func foreign() {
        let request = "POST / HTTP/1.1\r\nHost: x\r\n\r\nalloc a 1\nping\n"
        for size in [1, 7, 1000] {
            let daemon = TestDaemon()
            let peer = daemon.connect()
            peer.feed(Array(request.utf8)) { size }
            let output = String(decoding: peer.output, as: UTF8.self)
            #expect(output.hasPrefix("ERR notSmalloc Error: "))
            #expect(output.filter { $0 == "\n" }.count == 1)
            #expect(peer.isClosed)
            #expect(daemon.registry.budget.allocationCount == 0)
        }
    }

    @Test("a last line without its end is refused at the end of input, and so is part of a frame")
    func endOfInput() {
        let refusal =
            "ERR incompleteLine Error: the last line has no end, and was not carried out\n"
        for (text, answer) in [
            ("ping", refusal), ("ping\r", refusal), ("ping\nping", "OK pong\n" + refusal),
            ("GET / HTTP/1.0", refusal), ("  x  ", refusal), ("ping\n", "OK pong\n"), ("  ", ""),
            ("\n\n", ""), ("\r", ""), ("ping\n \t\r", "OK pong\n"),
        ] {
            let peer = TestDaemon().connect()
            peer.feed(text)
            peer.feedEnd()
            #expect(String(decoding: peer.output, as: UTF8.self) == answer, "\(text)")
        }
        for size in 1..<45 {
            let peer = TestDaemon().greeted()
            peer.feed(Array(frame(.open, name: "abcdef").prefix(size)))
            peer.feedEnd()
            #expect(peer.output.isEmpty)
        }
    }

    @Test("large fills and copies are work, one at a time, in both modes")
    func work() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        let size: UInt64 = 3 << 20
        let one = peer.call(.alloc, type: 2, name: "one", size: size).header.handle
        let two = peer.call(.alloc, type: 2, name: "two", size: size).header.handle
        peer.moves = false
        peer.feed(
            frame(.fill, cookie: 1, handle: one, size: size, payload: [1, 2, 3])
                + frame(
                    .copy, cookie: 2, handle: one, size: size, payload: copyDest(0, handle: two))
                + frame(.read, cookie: 3, handle: two, offset: size - 3, size: 3))
        #expect(peer.pause == .work && peer.output.isEmpty && peer.isBusy)
        peer.run()
        #expect(peer.output.isEmpty, "nothing is served while the work is not done")
        peer.moves = true
        peer.run()
        let found = replies(in: peer.output) ?? []
        #expect(found.map(\.header.cookie) == [1, 2, 3])
        #expect(found.first?.header.size == size && found.dropFirst().first?.header.size == size)
        #expect(found.last?.payload == [1, 2, 3])
        let text = daemon.connect()
        #expect(text.line("fill two 0 3145728 7\nread two 3145727") == "OK\nOK 7")
        #expect(text.line("copy one 0 two 1 3145727\nread two 0 4") == "OK\nOK 7 1 2 3")
    }

    @Test("overlapping copies of every size are as if the source had been read whole")
    func overlap() {
        let peer = TestDaemon().greeted()
        for size in [100, 70_000, 3_000_000] {
            var model = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7 ^ ($0 >> 8)) }
            let handle = peer.call(.alloc, type: 2, size: UInt64(size)).header.handle
            peer.call(.write, handle: handle, size: UInt64(size), payload: model)
            let count = size * 2 / 3
            for (from, to) in [(0, 7), (7, 0), (size - count, 0), (0, size - count), (5, 5)] {
                let copied = Array(model[from..<from + count])
                model.replaceSubrange(to..<to + count, with: copied)
                let reply = peer.call(
                    .copy, handle: handle, offset: UInt64(from), size: UInt64(count),
                    payload: copyDest(UInt64(to), handle: handle))
                #expect(reply.header.size == UInt64(count))
            }
            #expect(peer.call(.read, handle: handle, size: UInt64(size)).payload == model)
            peer.call(.close, handle: handle)
        }
    }

    @Test("of a line that was cut off nothing is carried out, whatever it says so far")
    func cutLines() {
        for line in [
            "dispose img2", "write img 0 1 2 30", "truncate img 10", "rename img other",
            "fill img 0 2 9", "copy img2 0 img 0 2", "alloc new 10", "quit",
        ] {
            for size in 1...line.utf8.count {
                let daemon = TestDaemon()
                let peer = daemon.connect()
                #expect(peer.line("alloc img 12\nwrite img 0 5 6\nalloc img2 2") == "OK\nOK\nOK")
                peer.output = []
                peer.feed(Array(line.utf8.prefix(size)))
                peer.feedEnd()
                let output = String(decoding: peer.output, as: UTF8.self)
                #expect(output.hasPrefix("ERR incompleteLine Error: "), "\(line) \(size)")
                #expect(output.filter { $0 == "\n" }.count == 1)
                #expect(
                    daemon.connect().line("read img 0 2\nlist")
                        == "OK 5 6\nITEM img Uint8 12\nITEM img2 Uint8 2\nOK 2", "\(line) \(size)")
            }
        }
    }

    @Test("the rest of a line that was too long is refused once, also where the input ends")
    func cutLongLine() {
        let peer = TestDaemon { $0.lineSizeMax = 256 }.connect()
        peer.feed(String(repeating: "x", count: 300))
        peer.feedEnd()
        let output = String(decoding: peer.output, as: UTF8.self)
        #expect(output == "ERR lineTooLong RangeError: a line has at most 256 bytes\n")
    }

    @Test("memory that is on its way back is waited for rather than refused")
    func reclaim() {
        let daemon = TestDaemon(warmSizeMax: 8 << 20) { $0.memorySizeMax = 40 << 20 }
        let peer = daemon.greeted()
        for _ in 0..<20 {
            let handle = peer.call(.alloc, type: 2, size: 30 << 20).header.handle
            #expect(handle != 0)
            peer.call(.fill, handle: handle, size: 30 << 20, payload: [1])
            #expect(peer.call(.close, handle: handle).outcome == "ok")
        }
        let text = daemon.connect()
        for _ in 0..<40 {
            #expect(text.line("alloc a 31457280") == "OK")
            #expect(text.line("fill a 0 31457280 1") == "OK")
            #expect(text.line("dispose a") == "OK")
        }
        #expect(text.line("alloc a 31457280\nalloc b 31457280").hasPrefix("OK\nERR memoryLimit "))
        #expect(text.line("dispose a") == "OK")
        #expect(daemon.settledSize == 0)
    }

    @Test("a large write or read goes on in memory that was disposed of meanwhile")
    func disposedMeanwhile() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        let other = daemon.greeted()
        let data = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 % 251) }
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: 200_000)
        let write = frame(.write, cookie: 4, name: "a", size: 200_000, payload: data)
        peer.feed(Array(write.prefix(100_000)))
        #expect(other.call(.stat, name: "a").number(1, afterName: 1) == 1)
        #expect(other.call(.dispose, name: "a").outcome == "ok")
        #expect(other.call(.alloc, flags: 2, type: 2, name: "a", size: 200_000).outcome == "ok")
        peer.feed(Array(write.dropFirst(100_000)))
        #expect(replies(in: peer.output)?.map(\.outcome) == ["ok"])
        #expect(other.call(.read, name: "a", size: 200_000).payload.allSatisfy { $0 == 0 })
        other.call(.write, name: "a", size: 200_000, payload: data)
        peer.output = []
        peer.moves = false
        peer.feed(frame(.read, name: "a", size: 200_000))
        #expect(other.call(.dispose, name: "a").outcome == "ok")
        peer.moves = true
        peer.run()
        #expect(replies(in: peer.output)?.first?.payload == data)
        #expect(daemon.settledSize == 0)
    }

    @Test("a session that ends in the middle of anything gives everything back")
    func ends() {
        let states: [(TestPeer) -> Void] = [
            { $0.feed(frame(.alloc, type: 2, size: 100_000)) },
            { $0.feed(frame(.alloc, type: 2, size: 0)) },
            {
                $0.feed(
                    Array(
                        frame(
                            .write, name: "n", size: 100_000,
                            payload: [UInt8](repeating: 1, count: 100_000)
                        ).prefix(90_000)))
            },
            {
                $0.feed(
                    Array(
                        frame(
                            .write, flags: 1, name: "n", size: 2,
                            payload: numbers(0, 90_000, 0, 10_000)
                                + [UInt8](repeating: 1, count: 100_000)
                        ).prefix(99_000)))
            },
            {
                $0.feed(
                    Array(
                        frame(
                            .write, name: "x", size: 100_000,
                            payload: [UInt8](repeating: 1, count: 100_000)
                        ).prefix(90_000)))
            },
            {
                $0.moves = false; $0.feed(frame(.read, name: "n", size: 100_000))
            },
            {
                $0.moves = false;
                $0.feed(
                    frame(
                        .read, flags: 1, name: "n", size: 2,
                        payload: numbers(0, 100_000, 5, 100_000)))
            },
            {
                $0.moves = false; $0.feed(frame(.fill, name: "l", size: 2 << 20, payload: [1, 2]))
            },
            {
                $0.moves = false
                $0.feed(frame(.copy, name: "l", size: 2 << 20, payload: copyDest(0, name: "m")))
            },
        ]
        for (index, state) in states.enumerated() {
            let daemon = TestDaemon()
            let peer = daemon.greeted()
            for (name, size) in [("n", UInt64(200_000)), ("l", 2 << 20), ("m", 2 << 20)] {
                peer.call(.alloc, flags: 2, type: 2, name: name, size: size)
            }
            peer.call(.open, name: "n")
            state(peer)
            peer.session.end(daemon.loop)
            #expect(peer.pause == .close)
            peer.isClosed = true
            #expect(daemon.registry.budget.allocationCount == 3)
            let other = daemon.greeted()
            for name in ["n", "l", "m"] {
                #expect(other.call(.dispose, name: name).outcome == "ok")
            }
            #expect(daemon.settledSize == 0, "state \(index)")
        }
    }

    @Test("a text reply never holds what a peer sent and is not printable")
    func printableErrors() {
        let peer = TestDaemon().connect()
        for noise in ["\u{1b}[31m", "é\r", "\u{7}", "a\u{0}b", "\u{85}\u{2028}"] {
            for line in [
                "alloc a 1 \(noise)", "\(noise)x y", "read \(noise)", "x\(noise)",
                "help \(noise)", "read a 0 1 \(noise)", "write a 0 \(noise)", "list \(noise)",
            ] {
                let fresh = TestPeer(peer.loop)
                fresh.feed("ping\n\(line)\n")
                let good = fresh.output.allSatisfy { (0x20...0x7E).contains($0) || $0 == 0x0A }
                #expect(good, "\(line)")
            }
        }
        let long = peer.line("alloc a 1 " + String(repeating: "x", count: 100_000))
        #expect(long.count < 200)
    }

    @Test("statistics tell requests, errors and what is held")
    func statistics() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        peer.call(.alloc, type: 2, name: "a", size: 100)
        peer.call(.read, handle: 1, offset: 200)
        peer.call(.ping)
        let lines = peer.call(.stats).text.split(separator: "\n")
        let values = Dictionary(
            uniqueKeysWithValues: lines.map { line in
                let parts = line.split(separator: " ")
                return (String(parts[0]), UInt64(parts[1]) ?? 0)
            })
        #expect(values["allocations"] == 1)
        #expect(values["requests_alloc"] == 1 && values["requests_read"] == 1)
        #expect(values["requests_hello"] == 1 && values["requests_stats"] == 1)
        #expect(values["errors"] == 1)
        #expect(values["memory_used_bytes"] == daemon.registry.budget.usedSize)
        let text = daemon.connect().line("stats").split(separator: "\n")
        #expect(text.last == "OK \(lines.count)")
        #expect(text.dropLast().allSatisfy { $0.hasPrefix("STAT ") })
    }
}

extension Reply {
    /// A number of a `stat` reply, whose payload starts with the name: 0 created, 1 handles, 2
    /// storage.
    func number(_ index: Int, afterName nameSize: Int) -> UInt64 {
        Reply(header: header, payload: Array(payload.dropFirst(nameSize))).number(index)
    }
}
