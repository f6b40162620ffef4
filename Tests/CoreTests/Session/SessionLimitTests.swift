// What a session lets itself be made to hold, and where it stops to let replies leave.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Limits of a session", .timed)
struct SessionLimitTests {
    private func pings(_ count: Int) -> [UInt8] {
        (0..<count).flatMap { frame(.ping, cookie: UInt64($0)) }
    }

    /// A greeted peer whose output stays where it is.
    private func stuck(_ change: (inout Limits) -> Void) -> TestPeer {
        let peer = TestDaemon(change).greeted()
        peer.moves = false
        return peer
    }

    @Test("it pauses when as many replies wait as requests may be in flight, and goes on after")
    func requestsInFlight() {
        let peer = stuck { $0.requestsInFlightMax = 10 }
        peer.feed(pings(25))
        #expect(peer.pause == .output)
        #expect(peer.tail.count == 15 * 40)
        #expect(replies(in: peer.output)?.count == 10)
        peer.run()
        #expect(replies(in: peer.output)?.count == 20)
        peer.run()
        #expect(peer.pause == .none && peer.tail.isEmpty)
        #expect(replies(in: peer.output)?.map(\.header.cookie) == (0..<25).map { UInt64($0) })
        #expect(peer.loop.counters.value(.pauses) == 2)
    }

    @Test("it pauses when so many bytes of replies wait, in frames and in text")
    func outputSize() {
        let peer = stuck { $0.outputSizeMax = 400 }
        peer.feed(pings(25))
        #expect(peer.pause == .output)
        #expect(peer.output.count == 400)
        let text = TestDaemon { $0.outputSizeMax = 80 }.connect()
        text.moves = false
        text.feed(String(repeating: "ping\n", count: 30))
        #expect(text.pause == .output)
        #expect(text.output.count == 80)
        text.run()
        text.run()
        #expect(text.output.count == 30 * 8)
    }

    @Test("refused requests count as others do: they make it pause as well")
    func refusedRequests() {
        var header = FrameHeader(magic: 0xE5, operation: 99)
        for payload in [0, 1] {
            header.payloadSize = UInt32(payload)
            let peer = stuck { $0.requestsInFlightMax = 10 }
            let one = bytes(of: header) + [UInt8](repeating: 0, count: payload)
            peer.feed((0..<100).flatMap { _ in one })
            #expect(peer.pause == .output, "payload of \(payload)")
            #expect((replies(in: peer.output)?.count ?? 0) <= 10)
            for _ in 0..<10 { peer.run() }
            #expect(replies(in: peer.output)?.count == 100)
        }
    }

    @Test("lines that are too long count as others do")
    func refusedLines() {
        let peer = TestDaemon {
            $0.requestsInFlightMax = 10
            $0.lineSizeMax = 8
        }.connect()
        peer.moves = false
        peer.feed(String(repeating: "123456789\n", count: 100))
        #expect(peer.pause == .output)
        #expect(peer.output.filter { $0 == 0x0A }.count <= 10)
        for _ in 0..<10 { peer.run() }
        #expect(peer.output.filter { $0 == 0x0A }.count == 100)
    }

    @Test("the rest of a line that is too long is dropped, in whatever pieces it comes")
    func longLineTails() {
        let line = Array((String(repeating: "x", count: 40) + " dispose a\n").utf8)
        for cut in 1..<line.count {
            let peer = TestDaemon { $0.lineSizeMax = 16 }.connect()
            #expect(peer.line("alloc a 4") == "OK")
            peer.feed(Array(line[..<cut]))
            peer.feed(Array(line[cut...]))
            let said = String(decoding: peer.output, as: UTF8.self)
            #expect(said.split(separator: "\n").count == 1 && said.hasPrefix("ERR lineTooLong"))
            #expect(peer.line("read a") == "OK 0 0 0 0", "cut after \(cut) bytes")
        }
    }

    @Test("a long line of numbers leaves others their turn, and is one write all the same")
    func longLines() throws {
        let daemon = TestDaemon()
        let peer = daemon.connect()
        let count = 200_000
        #expect(peer.line("alloc a \(count) Uint32") == "OK")
        let words = (0..<count).map { "\($0)" }.joined(separator: " ")
        let before = peer.turns
        #expect(peer.line("write a 0 \(words.prefix(1 << 19))x") != "OK")
        #expect(peer.turns > before)
        #expect(peer.line("read a 1 3") == "OK 0 0 0", "a word that is none: nothing is written")
        // What has the name changes its type while the line is read.
        peer.moves = false
        let whole = words.prefix(1 << 19).split(separator: " ").dropLast()
        peer.feed("write a 0 " + whole.joined(separator: " ") + "\n")
        #expect(peer.pause == .turn)
        let other = daemon.connect()
        #expect(other.line("dispose a") == "OK")
        #expect(other.line("alloc a \(count) Double") == "OK")
        peer.moves = true
        peer.run()
        #expect(peer.output == Array("OK\n".utf8))
        #expect(peer.line("read a 1 3") == "OK 1 2 3")
        #expect(peer.line("read a \(whole.count - 1) 2") == "OK \(whole.count - 1) 0")
    }

    @Test("values of a long line that is refused are not those of the next one")
    func refusedLongLine() {
        let daemon = TestDaemon()
        let peer = daemon.connect()
        #expect(peer.line("alloc a 200000 Uint32") == "OK")
        peer.moves = false
        peer.feed("write a 0 " + String(repeating: "7 ", count: 200_000) + "\n")
        #expect(peer.pause == .turn)
        let other = daemon.connect()
        #expect(other.line("dispose a") == "OK")
        #expect(other.line("alloc b 200000 Uint32") == "OK")
        peer.moves = true
        peer.run()
        #expect(String(decoding: peer.output, as: UTF8.self).hasPrefix("ERR noData"))
        #expect(peer.line("write b 0 1 2") == "OK")
        #expect(peer.line("read b 0 4") == "OK 1 2 0 0")
    }

    @Test("large reads pipelined one behind another leave one by one")
    func largeReads() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        let handle = peer.call(.alloc, type: 2, size: 1_000_000).header.handle
        peer.moves = false
        peer.feed(
            (0..<50).flatMap { frame(.read, cookie: $0, handle: handle, size: 1_000_000) })
        #expect(peer.pause == .send)
        #expect(peer.output.count == 40)
        #expect(peer.session.outgoing?.left == 1_000_000)
        #expect(peer.tail.count == 49 * 40)
        peer.run()
        #expect(peer.output.count == 40, "nothing is served before the piece has left")
        peer.moves = true
        peer.run()
        #expect(peer.output.count == 50 * 1_000_040)
    }

    @Test("a declared payload takes no memory until it has arrived")
    func declaredPayloads() {
        let peer = TestDaemon().greeted()
        let handle = peer.call(.alloc, type: 2, size: 1 << 29).header.handle
        let header = FrameHeader(
            magic: 0xE5, operation: Operation.write.rawValue, handle: handle,
            payloadSize: 1 << 29, size: 1 << 29)
        peer.feed(bytes(of: header) + [1])
        #expect(peer.tail.isEmpty)
        #expect(peer.isBusy)
        #expect(peer.largestOutput < 4096)
        let piece = peer.session.receiveRoom(sizeMax: 1 << 30)
        #expect(piece.count == (1 << 29) - 1)
    }

    @Test("what has to be kept of a frame is at most its header and a small payload")
    func tail() {
        for operation in Operation.allCases {
            let daemon = TestDaemon()
            let peer = daemon.greeted()
            peer.receivesDirectly = false
            var header = FrameHeader(magic: 0xE5, operation: operation.rawValue)
            header.payloadSize = 1 << 30
            header.nameSize = 3
            header.size = 1 << 30
            for flags: UInt8 in [0, 1] {
                header.flags = flags
                peer.feed(bytes(of: header))
                for _ in 0..<40 { peer.feed([UInt8](repeating: 0x61, count: 5000)) }
                #expect(peer.largestTail < 40 + 65_536 + 17_000, "\(operation)")
            }
        }
    }

    @Test("much work in a row stops for the turn of others, and then goes on, in both modes")
    func turns() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: 1_000_000)
        peer.moves = false
        peer.feed(
            (0..<60).flatMap {
                frame(.fill, cookie: $0, name: "a", size: 1_000_000, payload: [1])
            })
        #expect(peer.pause == .turn)
        let first = replies(in: peer.output)?.count ?? 0
        #expect(first > 0 && first < 30)
        var turns = 1
        while peer.pause == .turn, turns < 100 {
            peer.run()
            turns += 1
        }
        #expect(turns > 2)
        #expect(replies(in: peer.output)?.map(\.header.cookie) == (0..<60).map { UInt64($0) })
        let text = daemon.connect()
        text.moves = false
        text.feed(String(repeating: "fill a 0 1000000 7\n", count: 60))
        #expect(text.pause == .turn)
        text.moves = true
        text.run()
        #expect(
            String(decoding: text.output, as: UTF8.self) == String(repeating: "OK\n", count: 60))
    }

    @Test("a listing that finds nothing, and a long read, stop for the turn of others in text mode")
    func longAnswers() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        let count = 8 * Thresholds.pageSlots
        for number in 0..<count {
            peer.feed(frame(.alloc, flags: 2, type: 2, name: "n\(number)", size: 1))
        }
        peer.call(.alloc, flags: 2, type: 8, name: "a", size: 1_000_000)
        func turns(_ line: String) -> (Int, String) {
            let text = daemon.connect()
            text.feed(line)
            return (text.turns, String(decoding: text.output, as: UTF8.self))
        }
        let (listing, found) = turns("list zzz\n")
        #expect(listing >= 3)
        #expect(found == "OK 0\n")
        let (reading, shown) = turns("read a\n")
        #expect(reading >= 10)
        let isRight = shown == "OK" + String(repeating: " 0", count: 125_000) + "\n"
        #expect(isRight)
    }

    @Test("a name over its limit is none where it would be given, and is looked for all the same")
    func nameSize() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        #expect(peer.call(.alloc, flags: 2, type: 2, name: "twelve-bytes", size: 1).status == .ok)
        var limits = Limits()
        limits.nameSizeMax = 8
        daemon.registry.limits.update(limits)
        #expect(peer.call(.hello).number(15) == 8)
        #expect(peer.call(.alloc, flags: 2, type: 2, name: "12345678", size: 1).status == .ok)
        #expect(
            peer.call(.alloc, flags: 2, type: 2, name: "123456789", size: 1).status
                == .invalidName)
        #expect(
            peer.call(.rename, name: "12345678", payload: Array("123456789".utf8)).status
                == .invalidName)
        #expect(peer.call(.read, name: "twelve-bytes", size: 1).payload == [0])
        #expect(peer.call(.read, name: "nine-byte", size: 1).status == .noData)
    }

    @Test("it says how many bytes an unfinished request wants")
    func wanted() {
        let peer = TestDaemon().greeted()
        peer.feed([0xE5])
        #expect(peer.wanted == 40)
        peer.feed(Array(frame(.open, name: "abcd").dropFirst().prefix(39)))
        #expect(peer.wanted == 44)
    }

    @Test("a line of the largest size is served, with either end; one more byte is too long")
    func longestLine() {
        let name = String(repeating: "n", count: 20)
        let line = "read \(name)"  // 25 bytes
        for end in ["\n", "\r\n"] {
            for size in 1...4 {
                for (extra, isTooLong) in [(0, false), (1, true)] {
                    let peer = TestDaemon { $0.lineSizeMax = 25 }.connect()
                    let text = line + String(repeating: "x", count: extra) + end + "ping\n"
                    peer.feed(Array(text.utf8)) { size }
                    let symbol = isTooLong ? "ERR lineTooLong RangeError: " : "ERR noData Error: "
                    let lines = String(decoding: peer.output, as: UTF8.self).split(separator: "\n")
                    #expect(lines.count == 2, "\(lines)")
                    #expect(lines.first?.hasPrefix(symbol) == true, "\(lines) in pieces of \(size)")
                    #expect(lines.last == "OK pong")
                }
            }
        }
    }

    @Test("a line without end is refused once, kept nowhere, and the next one is served")
    func endlessLine() {
        let peer = TestDaemon { $0.lineSizeMax = 100 }.connect()
        for _ in 0..<1000 { peer.feed(String(repeating: "x", count: 37)) }
        #expect(peer.largestTail <= 137)
        peer.feed("\nping\n")
        let lines = String(decoding: peer.output, as: UTF8.self).split(separator: "\n")
        #expect(lines.count == 2)
        #expect(lines.first?.hasPrefix("ERR lineTooLong RangeError: ") == true)
        #expect(lines.last == "OK pong")
        peer.feed(String(repeating: "x", count: 101))
        peer.feedEnd()
        #expect(peer.output.filter { $0 == 0x0A }.count == 3)
    }

    @Test("limits of any size whatever trap nothing")
    func extremeLimits() {
        for value in [UInt64(0), 1, UInt64(Int.max), UInt64(Int.max) + 1, .max] {
            let daemon = TestDaemon {
                $0.memorySizeMax = value
                $0.lengthSizeMax = value
                $0.allocationsMax = value
                $0.frameSizeMax = value
                $0.requestsInFlightMax = max(1, value)
                $0.handlesMax = value
                $0.outputSizeMax = max(1, value)
                $0.lineSizeMax = max(16, value)
            }
            let peer = daemon.connect()
            peer.feed(frame(.hello))
            for size in [0, 1, UInt64(Int.max) - 4096, UInt64(Int.max), UInt64(Int.max) + 1, .max] {
                let reply = peer.call(.alloc, flags: 2, type: 2, name: "a", size: size)
                if reply.status == .ok { peer.call(.dispose, name: "a") }
                #expect(size < 2 || reply.status != .ok)
            }
            #expect(peer.call(.ping).status == .ok)
            let text = daemon.connect()
            #expect(text.line("alloc a 9223372036854775807").hasPrefix("ERR "))
            #expect(text.line("ping") == "OK pong")
        }
    }
}
