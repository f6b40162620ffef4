// Watches of both faces: events in their order, cursors, cancelling, and what a daemon may get
// wrong.

import Foundation
import Smalloc
import SmallocWire
import TestSupport
import Testing

@Suite("Watches of the client", .timed)
struct WatchingTests {
    /// Does each kind of change to names below a prefix.
    private func change(_ smalloc: Smalloc, _ prefix: String) throws -> [Smalloc.Event] {
        let (a, b, c) = (prefix + "a", prefix + "b", prefix + "c")
        let first = try smalloc.alloc(8, named: a)
        try first.truncate(4)
        try first.rename(to: b)
        try first.freeze()
        let second = try smalloc.alloc(2)
        try second.rename(to: c)
        try smalloc.rename(b, to: c, replacing: true)
        let third = try smalloc.alloc(1)
        try third.rename(to: c, replacing: true)
        try smalloc.dispose(named: c)
        return [
            .allocated(a), .truncated(a), .renamed(a, to: b), .frozen(b), .allocated(c),
            .replaced(b, to: c), .replaced(c, to: c), .disposed(c),
        ]
    }

    @Test("a blocking watch begins when it is asked for, and tells each kind in its order")
    func blocking() throws {
        let prefix = SharedDaemon.name("watch") + "/"
        let smalloc = try SharedDaemon.connect()
        var watch = try smalloc.watch(prefix)
        let start = watch.cursor
        let other = try SharedDaemon.connect()
        let expected = try change(other, prefix)
        for event in expected { #expect(try watch.next()?.get() == event) }
        #expect(try watch.next(timeout: .zero) == nil)
        #expect(try watch.next(timeout: .milliseconds(30)) == nil)
        #expect(watch.cursor > start)
        #expect(expected[2].name == prefix + "a" && expected[2].newName == prefix + "b")
        #expect(expected[0].newName == nil && Smalloc.Event.missed(3).name == nil)
        // From a cursor, on another connection and from the middle, it is all told again.
        var again = try other.watch(prefix, from: start)
        #expect(try again.next(timeout: .zero) == expected[0])
        #expect(again.cursor == start)
        #expect(try again.next(timeout: .zero) == expected[1])
        var rest = try smalloc.watch(prefix, from: again.cursor)
        for event in expected { #expect(try rest.next(timeout: .zero) == event) }
        #expect(try rest.next(timeout: .zero) == nil && rest.cursor >= watch.cursor)
        #expect(failure { () throws(SmallocError) in _ = try smalloc.watch("a b") } != nil)
    }

    @Test("a blocking watch waits for what another thread does")
    func waiting() async throws {
        let name = SharedDaemon.name("watch")
        let smalloc = try SharedDaemon.connect()
        let watch = try smalloc.watch(name)
        let thread = Task.detached {
            var watch = watch
            return try watch.next()?.get()
        }
        try await Task.sleep(for: .milliseconds(50))
        let other = try SharedDaemon.connect()
        _ = try other.alloc(1, named: name)
        #expect(try await thread.value == .allocated(name))
        try other.dispose(named: name)
    }

    @Test("an async watch is told all, and others' calls go on", arguments: Place.allCases)
    func async(_ place: Place) async throws {
        let prefix = SharedDaemon.name("watch") + "/"
        let smalloc = try await SharedDaemon.connectAsync()
        let watch = try await smalloc.watch(prefix)
        let expected = try change(try SharedDaemon.connect(), prefix)
        let task = Task(executorPreference: place.executor(of: smalloc)) {
            var events: [Smalloc.Event] = []
            for try await event in watch {
                events.append(event)
                if event == .disposed(prefix + "last") { break }
            }
            return events
        }
        try await Task.sleep(for: .milliseconds(20))
        try await smalloc.ping()
        _ = try await smalloc.alloc(1, named: prefix + "last")
        try await smalloc.dispose(named: prefix + "last")
        #expect(
            try await task.value
                == expected + [.allocated(prefix + "last"), .disposed(prefix + "last")])
        // Each iterator begins where the watch does.
        var iterator = watch.makeAsyncIterator()
        #expect(try await iterator.next() == expected[0])
        #expect(iterator.cursor == watch.cursor)
    }

    @Test("a cancelled task ends its watch, in the daemon, too", arguments: Place.allCases)
    func cancelled(_ place: Place) async throws {
        let daemon = try DaemonProcess()
        let control = try Smalloc("unix:\(daemon.path)")
        let smalloc = try await AsyncSmalloc("unix:\(daemon.path)")
        for round in 0..<40 {
            let watch = try await smalloc.watch("none/")
            let task = Task(executorPreference: place.executor(of: smalloc)) {
                for try await _ in watch {}
            }
            // At each stage of its way.
            if round % 4 > 0 { try await Task.sleep(for: .microseconds(50 << (round % 4 * 2))) }
            task.cancel()
            await #expect(throws: SmallocError.cancelled) { try await task.value }
        }
        // Those that the daemon has taken up it was asked to take back.
        let watches = try #require(try control.stats().number("requests_watch"))
        #expect(watches >= 40 + 10)
        #expect(try #require(try control.stats().number("requests_cancel")) >= watches - 40)
        // A failed iteration is over.
        var iterator = try await smalloc.watch().makeAsyncIterator()
        let error = await failure { () async throws(SmallocError) in
            daemon.signal(SIGTERM)
            while try await iterator.next() != nil {}
        }
        #expect(error?.isTransport == true)
        #expect(try await iterator.next() == nil)
    }

    @Test("what was missed is told, and that of another daemon, too")
    func missed() async throws {
        let daemon = try DaemonProcess()
        let smalloc = try Smalloc("unix:\(daemon.path)")
        var watch = try smalloc.watch("last")
        let start = watch.cursor
        let made = 17_000
        let text = try daemon.text()
        for first in stride(from: 0, to: made, by: 100) {
            let lines = (first..<first + 100).map { "alloc n\($0) 1" }
            try text.socket.send(line: lines.joined(separator: "\n"))
            for _ in lines { #expect(try text.socket.receiveLine() == "OK") }
        }
        _ = try smalloc.alloc(1, named: "last")
        let count = made + 1 - 16_384
        #expect(try watch.next()?.get() == .missed(count))
        #expect(try watch.next()?.get() == .allocated("last"))
        let tasks = try await AsyncSmalloc("unix:\(daemon.path)")
        var iterator = try await tasks.watch("last", from: start).makeAsyncIterator()
        #expect(try await iterator.next() == .missed(count))
        #expect(try await iterator.next() == .allocated("last"))
        var foreign = try smalloc.watch(from: 12345)
        #expect(try foreign.next(timeout: .zero) == .missed(nil))
        #expect(try foreign.next(timeout: .zero) == nil)
    }

    @Test("kinds that are not known are passed over, and nonsense is refused")
    func hostile() throws {
        let replies: [(payload: [UInt8], offset: UInt64, isGood: Bool)] = [
            ([99, 1, 0, 0x61, 1, 1, 0, 0x62], 5, true), ([1, 2, 0, 0x61], 5, false),
            ([1, 255], 5, false), ([3, 1, 9, 0x61, 0x62], 5, false), ([1, 1, 0, 0x61], 0, false),
        ]
        let server = try FakeServer { peer, number in
            guard peer.greet(), let request = peer.receiveFrame() else { return }
            var reply = peer.reply(request, payload: replies[number].payload)
            reply.offset = replies[number].offset
            peer.send(reply.bytes)
            peer.waitForEnd()
        }
        for (_, _, isGood) in replies {
            let smalloc = try Smalloc(server.address)
            var watch = try smalloc.watch(from: 4)
            if isGood {
                #expect(try watch.next()?.get() == .allocated("b"))
            } else {
                let error = failure { () throws(SmallocError) in _ = try watch.next()?.get() }
                #expect(error?.status == .unexpectedReply)
                #expect(watch.next() == nil)
            }
        }
    }
}
