// Pages in a socket: what is lent arrives, and what was copied behind it says when it has.

import Glibc
import TestSupport
import Testing

@testable import smallocd

@Suite("Lending pages")
struct PageLenderTests {
    /// Page-aligned memory, each page of its own bytes.
    private final class Pages {
        let bytes: UnsafeMutableRawBufferPointer

        init(_ size: Int) {
            bytes = .allocate(byteCount: size, alignment: 4096)
            for index in 0..<size { bytes[index] = Pages.byte(index) }
        }

        deinit { bytes.deallocate() }

        static func byte(_ index: Int) -> UInt8 { UInt8(truncatingIfNeeded: index &* 31 >> 3) | 1 }

        func part(_ range: Range<Int>) -> UnsafeRawBufferPointer {
            UnsafeRawBufferPointer(rebasing: bytes[range])
        }
    }

    private func count(_ outcome: PageLender.Outcome) -> Int {
        if case .lent(let size) = outcome { size } else { 0 }
    }

    @Test("what is lent arrives as it is when it is read, a socket's room at a time")
    func arrives() {
        let (lender, pair, pages) = (PageLender(), SocketPair(), Pages(1 << 20))
        var sent = 0
        var got: [UInt8] = []
        while sent < pages.bytes.count {
            let outcome = lender.lend(pages.part(sent..<pages.bytes.count), to: pair.ours)
            sent += count(outcome)
            #expect(sent < pages.bytes.count || got.count > 0, "more than a socket holds")
            if outcome == .full || sent == pages.bytes.count { got += pair.receive(1 << 20) }
        }
        while got.count < sent { got += pair.receive(1 << 20) }
        #expect(got.elementsEqual(pages.bytes))
        // It is the page that is lent: what was written since is there.
        #expect(count(lender.lend(pages.part(0..<4096), to: pair.ours)) == 4096)
        pages.bytes[7] = 0
        #expect(pair.receive(4096)[7] == 0)
    }

    @Test("a socket that nobody reads takes no more than its buffer, and then is full")
    func full() {
        let (lender, pair, pages) = (PageLender(), SocketPair(), Pages(4 << 20))
        var sent = 0
        for _ in 0..<100 { sent += count(lender.lend(pages.part(sent..<4 << 20), to: pair.ours)) }
        #expect(sent >= lender.stepSize && sent <= 512 << 10, "\(sent)")
        #expect(lender.lend(pages.part(sent..<4 << 20), to: pair.ours) == .full)
        _ = pair.receive(4 << 20)
        #expect(count(lender.lend(pages.part(0..<65_536), to: pair.ours)) == 65_536)
    }

    @Test("when the tail has left, nothing that was lent is in the socket, however it is read")
    func tail() throws {
        var random = SplitMix(for: "PageLenderTests.tail")
        let seed = random.seed
        let lender = PageLender()
        for round in 0..<40 {
            let pair = SocketPair()
            let tailSize = try #require(lender.tailSize(pair.ours))
            let lentSize = 4096 * Int.random(in: 1...160, using: &random)
            let pages = Pages(lentSize + tailSize)
            let most = 1 << Int.random(in: 8...18, using: &random)
            var sent = 0
            var got: [UInt8] = []
            while sent < pages.bytes.count {
                if sent < lentSize, Bool.random(using: &random) {
                    sent += count(lender.lend(pages.part(sent..<lentSize), to: pair.ours))
                } else if sent >= lentSize {
                    sent += pair.send(pages.part(sent..<pages.bytes.count))
                } else {
                    // Some of it is copied, as much as ends at a page.
                    sent += pair.send(pages.part(sent..<sent + 4096))
                    guard sent % 4096 == 0 else {
                        Issue.record("a page was cut, seed \(seed)")
                        return
                    }
                }
                if sent < pages.bytes.count {
                    got += pair.receive(Int.random(in: 0...most, using: &random))
                }
            }
            let expected = Array(pages.bytes)
            for index in 0..<lentSize { pages.bytes[index] = 0 }
            while got.count < sent { got += pair.receive(1 << 20) }
            let isRight = got == expected
            #expect(isRight, "round \(round), seed \(seed)")
        }
    }

    @Test("a peer that has gone is refused, and others are served as before")
    func gone() {
        let (lender, pair, pages) = (PageLender(), SocketPair(), Pages(1 << 20))
        signal(SIGPIPE, SIG_IGN)
        pair.closeTheirs()
        #expect(lender.lend(pages.part(0..<65_536), to: pair.ours) == .refused)
        #expect(lender.lend(pages.part(0..<65_536), to: -1) == .refused)
        let other = SocketPair()
        #expect(count(lender.lend(pages.part(0..<65_536), to: other.ours)) == 65_536)
        // Nothing of what the other one did not take.
        #expect(other.receive(1 << 20).elementsEqual(pages.part(0..<65_536)))
    }

    @Test("a socket with a small buffer is lent nothing")
    func small() {
        let pair = SocketPair()
        var size: Int32 = 16_384
        setsockopt(pair.ours, SOL_SOCKET, SO_SNDBUF, &size, 4)
        #expect(PageLender().tailSize(pair.ours) == nil)
        #expect(PageLender().tailSize(-1) == nil)
    }
}
