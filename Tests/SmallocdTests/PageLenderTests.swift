// Pages in a socket: what is lent arrives, and what was copied behind it says when it has.

import Glibc
import TestSupport
import Testing

@testable import smallocd

@Suite("Lending pages", .enabled(if: Kernel.lendsPages, "Linux 6.5"))
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

    /// Lends what there is room for.
    ///
    /// - Returns: Bytes that have left.
    private func lend(
        _ lender: PageLender, _ bytes: UnsafeRawBufferPointer, to socket: Int32
    ) throws -> Int {
        let borrower = try #require(lender.borrower(socket))
        let room = try #require(lender.room(borrower))
        guard room > 0 else { return 0 }
        let part = UnsafeRawBufferPointer(rebasing: bytes.prefix(room))
        guard case .lent(let size) = lender.lend(part, to: socket) else {
            Issue.record("the kernel refuses, or has less room than it said")
            throw CancellationError()
        }
        return size
    }

    private func made() throws -> (PageLender, SocketPair, Pages) {
        (try #require(PageLender()), SocketPair(), Pages(1 << 20))
    }

    @Test("what is lent arrives as it is when it is read, a socket's room at a time")
    func arrives() throws {
        let (lender, pair, pages) = try made()
        var sent = 0
        var got: [UInt8] = []
        while sent < pages.bytes.count {
            let count = try lend(lender, pages.part(sent..<pages.bytes.count), to: pair.ours)
            sent += count
            #expect(sent < pages.bytes.count || got.count > 0, "more than a socket holds")
            if count == 0 || sent == pages.bytes.count { got += pair.receive(1 << 20) }
        }
        while got.count < sent { got += pair.receive(1 << 20) }
        #expect(got.elementsEqual(pages.bytes))
        // It is the page that is lent: what was written since is there.
        #expect(try lend(lender, pages.part(0..<4096), to: pair.ours) == 4096)
        pages.bytes[7] = 0
        #expect(pair.receive(4096)[7] == 0)
    }

    @Test("a socket that nobody reads takes no more than its buffer, and then is full")
    func full() throws {
        let (lender, pair, pages) = try made()
        var sent = 0
        for _ in 0..<100 {
            sent += try lend(lender, pages.part(sent..<pages.bytes.count), to: pair.ours)
        }
        #expect(sent >= lender.stepSize && sent <= 512 << 10, "\(sent)")
        #expect(lender.room(try #require(lender.borrower(pair.ours))) == 0)
        // Told to all the same: what the kernel takes, and no more.
        var more = 0
        while case .lent(let size) = lender.lend(pages.part(more..<1 << 20), to: pair.ours) {
            more += size
        }
        #expect(lender.lend(pages.part(more..<1 << 20), to: pair.ours) == .full)
        var got: [UInt8] = []
        while got.count < sent + more { got += pair.receive(4 << 20) }
        #expect(got == Array(pages.part(0..<sent)) + Array(pages.part(0..<more)))
        // Nothing of what that socket had no room for.
        let other = SocketPair()
        #expect(try lend(lender, pages.part(8192..<73_728), to: other.ours) == 65_536)
        #expect(other.receive(1 << 20).elementsEqual(pages.part(8192..<73_728)))
    }

    @Test("when the tail has left, nothing that was lent is in the socket, however it is read")
    func tail() throws {
        var random = SplitMix(for: "PageLenderTests.tail")
        let seed = random.seed
        let lender = try #require(PageLender())
        for round in 0..<40 {
            let pair = SocketPair()
            let tailSize = try #require(lender.borrower(pair.ours)).tailSize
            let lentSize = 4096 * Int.random(in: 1...160, using: &random)
            let pages = Pages(lentSize + tailSize)
            let most = 1 << Int.random(in: 8...18, using: &random)
            var sent = 0
            var got: [UInt8] = []
            while sent < pages.bytes.count {
                if sent < lentSize, Bool.random(using: &random) {
                    sent += try lend(lender, pages.part(sent..<lentSize), to: pair.ours)
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
    func gone() throws {
        let (lender, pair, pages) = try made()
        pair.closeTheirs()
        withoutSIGPIPE {
            #expect(lender.lend(pages.part(0..<65_536), to: pair.ours) == .refused)
        }
        #expect(lender.borrower(-1) == nil)
        let other = SocketPair()
        #expect(try lend(lender, pages.part(0..<65_536), to: other.ours) == 65_536)
        // Nothing of what the other one did not take.
        #expect(other.receive(1 << 20).elementsEqual(pages.part(0..<65_536)))
    }

    @Test("what can't be lent at all is refused, and from then on nothing is tried")
    func refused() throws {
        let (lender, pair, pages) = try made()
        let folder = TemporaryFolder()
        let file = open(folder.write("", to: "f"), O_WRONLY | O_APPEND)
        defer { close(file) }
        // Splicing to the end of a file is not to be had.
        let borrower = try #require(lender.borrower(pair.ours))
        #expect(lender.room(borrower) ?? 0 > 0)
        #expect(lender.lend(pages.part(0..<4096), to: file) == .refused)
        #expect(lender.room(borrower) == nil)
    }

    /// The daemon ignores the signal; the process of the tests, whose children would too, does not.
    private func withoutSIGPIPE(_ body: () -> Void) {
        var (pipe, before) = (sigset_t(), sigset_t())
        sigemptyset(&pipe)
        sigaddset(&pipe, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &pipe, &before)
        body()
        var now = timespec()
        while sigtimedwait(&pipe, nil, &now) == SIGPIPE {}
        pthread_sigmask(SIG_SETMASK, &before, nil)
    }

    @Test("a socket with a small buffer is lent nothing")
    func small() throws {
        let (lender, pair, _) = try made()
        var size: Int32 = 32_768
        setsockopt(pair.ours, SOL_SOCKET, SO_SNDBUF, &size, 4)
        #expect(lender.borrower(pair.ours) == nil)
    }

    @Test("without a descriptor left for a pipe there is no room, and later there is")
    func noDescriptors() throws {
        let pair = SocketPair()
        var before = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &before)
        var none = rlimit(rlim_cur: 3, rlim_max: before.rlim_max)
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &none)
        let made = PageLender()
        let borrower = made?.borrower(pair.ours)
        let room = borrower.flatMap { made?.room($0) }
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &before)
        #expect(room == nil)
        #expect(try #require(made).room(try #require(borrower)) ?? 0 > 0)
    }
}

@Suite("Kernel releases")
struct KernelReleaseTests {
    @Test("lending begins with Linux 6.5, and a release that can't be read is none")
    func oldest() {
        for text in ["6.5", "6.5.0-rc1", "6.18.44-x", "10.1.2", "7.0+"] {
            let kernel = KernelRelease(text)
            #expect(kernel.map { $0 >= PageLender.oldestKernel } == true, "\(text)")
        }
        for text in ["6.4.99", "6.1.0-18-amd64", "5.15.0", "4.19", "0.9"] {
            let kernel = KernelRelease(text)
            #expect(kernel != nil && PageLender(kernel: kernel) == nil, "\(text)")
        }
        for text in ["", "6", "six.5", "6.x", "6..5", ".6.5", " 6.5"] {
            #expect(KernelRelease(text) == nil, "\(text)")
        }
        #expect(PageLender(kernel: nil) == nil)
        #expect(KernelRelease.current != nil)
    }
}
