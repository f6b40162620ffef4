// What an allocation object is, how long it lives, and what becomes of its subscripts' failures.

import Smalloc
import Testing
import TestSupport

private final class Plain {}
private final class Holder: Smalloc.Holder { var allocation: Allocation? }

@Suite("Allocations", .timed)
struct AllocationTests {
    let smalloc: Smalloc

    init() throws { smalloc = try SharedDaemon.connect() }

    @Test("fresh memory reads as zeros")
    func zeros() throws {
        for type in ElementType.allCases {
            let a = try smalloc.alloc(100, type)
            var bytes = [UInt8](repeating: 0xAA, count: a.size)
            try bytes.withUnsafeMutableBytes { try a.read(into: $0) }
            #expect(bytes.allSatisfy { $0 == 0 })
            #expect(a.size == 100 * type.size)
        }
    }

    @Test("a named allocation stays, is opened again, and goes by its name")
    func named() throws {
        let name = SharedDaemon.name()
        do {
            let a = try smalloc.alloc(3, named: name, .double)
            a[2] = 0.5
            #expect(a.name == name)
        }
        let other = try SharedDaemon.connect()
        let b = try other.open(name)
        #expect(b.length == 3)
        #expect(b.type == .double)
        #expect(b[2] == 0.5)
        try other.dispose(named: name)
        #expect(!other.hasExternalData(b))
        #expect(
            failure { () throws(SmallocError) in _ = try smalloc.open(name) }?.status == .noData)
        // A handle from before never sees the new memory.
        let c = try other.alloc(1, named: name)
        #expect(failure { () throws(SmallocError) in _ = try b.get(0) }?.status == .noData)
        try c.dispose()
    }

    @Test("releasing an anonymous allocation disposes of it, without another call")
    func released() throws {
        let daemon = try DaemonProcess()
        let smalloc = try Smalloc("unix:\(daemon.path)")
        let watcher = try Smalloc("unix:\(daemon.path)")
        var held: [Allocation] = try (0..<100).map { _ in try smalloc.alloc(10) }
        let plain = Plain()
        let holder = Holder()
        try smalloc.alloc(1, plain)
        try smalloc.alloc(1, holder)
        #expect(try allocations(watcher) == 102)
        held.removeAll()
        #expect(try eventually { try allocations(watcher) == 2 })
        holder.allocation = nil
        #expect(try eventually { try allocations(watcher) == 1 })
        // Thousands, whose answers nobody reads.
        held = try (0..<3000).map { _ in try smalloc.alloc(1) }
        held.removeAll()
        #expect(try eventually { try allocations(watcher) == 1 })
        try smalloc.ping()
        #expect(smalloc.hasExternalData(plain))
        smalloc.close()
        #expect(try eventually { try allocations(watcher) == 0 })
        #expect(daemon.stop() == 0)
    }

    @Test("the table of plain receivers lets go of what is gone")
    func table() throws {
        let daemon = try DaemonProcess()
        let smalloc = try Smalloc("unix:\(daemon.path)")
        for _ in 0..<500 { try smalloc.alloc(1, Plain()) }
        let last = Plain()
        try smalloc.alloc(1, last)
        #expect(try eventually { try allocations(smalloc) < 200 })
        #expect(smalloc.hasExternalData(last))
    }

    @Test("a failed subscript changes nothing, stays, and is thrown once by the next throwing call")
    func sticky() throws {
        let a = try smalloc.alloc(4)
        a[4] = 1
        #expect(a.lastError?.message == "start + count > length")
        a[-1] = 1
        #expect(a[9].isNaN)
        // The first one stays.
        #expect(a.lastError?.message == "start + count > length")
        #expect(
            failure { () throws(SmallocError) in try a.set(5, at: 0) }?.message
                == "start + count > length")
        #expect(a[0] == 0, "the call that threw did nothing")
        try a.set(5, at: 0)
        #expect(a[0] == 5)
        a[4] = 1
        #expect(failure(a.throwIfFailed)?.status == .outOfRange)
        #expect(failure(a.throwIfFailed) == nil)
        a[4] = 1
        let b = try smalloc.alloc(4)
        #expect(
            failure { () throws(SmallocError) in try smalloc.copyOnto(b, 0, a, 0, 4) }?.message
                == "start + count > length")
        try smalloc.copyOnto(b, 0, a, 0, 4)
        #expect(a[0] == 0)
    }

    @Test("dispose does its work before it throws a subscript's failure")
    func stickyDispose() throws {
        let name = SharedDaemon.name()
        let a = try smalloc.alloc(1, named: name)
        a[1] = 1
        #expect(
            failure { () throws(SmallocError) in try smalloc.dispose(a) }?.status == .outOfRange)
        #expect(
            failure { () throws(SmallocError) in _ = try smalloc.stat(name) }?.status == .noData)
    }

    @Test("sliceOnto makes a view of the same memory that keeps it alive")
    func slices() throws {
        var a: Allocation? = try smalloc.alloc(6, .int16)
        try a?.write([0, 1, 2, 3, 4, 5] as [Int16])
        let dest = Holder()
        try smalloc.sliceOnto(try #require(a), dest, 2, 5)
        let slice = try #require(dest.allocation)
        #expect(slice.length == 3)
        #expect(slice.type == .int16)
        dest[0] = 20
        #expect(a?[2] == 20)
        a = nil
        #expect(try slice.numbers() == [20, 3, 4])
        try slice.write([7, 8] as [Int16], at: 1)
        #expect(try slice.read(Int16.self, ranges: [2..<3, 0..<2]) == [8, 20, 7])
        try slice.fill(1, from: 1)
        #expect(try slice.numbers() == [20, 1, 1])
        #expect(
            failure { () throws(SmallocError) in _ = try slice.get(3) }?.message
                == "start + count > length")
        #expect(
            failure { () throws(SmallocError) in _ = try slice.read(Int16.self, from: 4) }?
                .message == "start > length")
        let inner = try slice.slice(1, 3)
        inner[0] = 42
        #expect(slice[1] == 42)
        try smalloc.truncate(slice, 2)
        #expect(try slice.numbers() == [20, 42])
        try smalloc.dispose(slice)
        #expect(inner[0] == 42, "disposing of a slice leaves the memory")
    }

    @Test("stat finds out that another client has truncated it")
    func truncatedByAnother() async throws {
        let name = SharedDaemon.name()
        let a = try smalloc.alloc(8, named: name, .double)
        let b = try await SharedDaemon.connectAsync().open(name)
        try smalloc.truncate(smalloc.open(name), 3)
        #expect(a.length == 8 && b.length == 8)
        #expect(try a.stat().length == 3)
        #expect(try await b.stat().length == 3)
        #expect(a.length == 3 && b.length == 3)
        #expect(try await b.read(Double.self) == [0, 0, 0])
        try a.dispose()
    }

    @Test("a length never grows, in whatever order answers are looked at")
    func lengthOnlyShrinks() async throws {
        let server = try FakeServer { peer, _ in
            guard peer.behave(1) else { return }
            for size: UInt64 in [3, 8] {
                guard let request = peer.receiveFrame() else { return }
                let reply = peer.reply(
                    request, type: 2, size: size, payload: [UInt8](repeating: 0, count: 24))
                guard peer.send(reply.bytes) else { return }
            }
            peer.waitForEnd()
        }
        let a = try Smalloc(server.address).alloc(8)
        #expect(try a.stat().size == 3 && a.length == 3)
        #expect(try a.stat().size == 8 && a.length == 3)
        let b = try await AsyncSmalloc(server.address).alloc(8)
        #expect(try await b.stat().size == 3 && b.length == 3)
        #expect(try await b.stat().size == 8 && b.length == 3)
    }

    @Test("disposing of the source leaves its slices without data, whatever is allocated next")
    func sliceOfDisposed() throws {
        let a = try smalloc.alloc(4)
        let slice = try a.slice(0, 4)
        try a.dispose()
        // Handle numbers may be used again.
        let others = try (0..<10).map { _ in try smalloc.alloc(4) }
        slice[0] = 9
        #expect(failure(slice.throwIfFailed)?.status == .noData)
        #expect(!smalloc.hasExternalData(slice))
        for other in others { #expect(try other.numbers() == [0, 0, 0, 0]) }
    }

    @Test("stat, rename and list tell of it")
    func stat() throws {
        let name = SharedDaemon.name("listed")
        let a = try smalloc.alloc(5, .uint32)
        #expect(try a.stat().name == nil)
        try a.rename(to: name)
        let stat = try smalloc.stat(name)
        #expect(stat.name == name)
        #expect(stat.type == .uint32)
        #expect(stat.length == 5)
        #expect(stat.size == 20)
        #expect(stat.handles == 1)
        #expect(stat.storage == .heap)
        #expect(stat.createdMilliseconds > 1_600_000_000_000)
        try smalloc.rename(name, to: name + "x")
        #expect(try smalloc.list("listed/").map(\.name).contains(name + "x"))
        #expect(try a.stat().name == name + "x")
        try a.rename(to: name)
        let entry = try #require(try smalloc.list(name).first)
        #expect(entry.length == 5 && entry.type == .uint32 && entry.size == 20)
        try smalloc.create(name + "y", 3, .double)
        #expect(try smalloc.stat(name + "y").handles == 0)
        #expect(
            failure { () throws(SmallocError) in try smalloc.rename(name, to: name + "y") }?
                .status == .alreadyExists)
        try smalloc.dispose(named: name)
        try smalloc.dispose(named: name + "y")
    }

    @Test("renamed in the place of another it has the name, and the other is gone")
    func replacing() throws {
        let name = SharedDaemon.name("replaced")
        let old = try smalloc.alloc(2, named: name)
        let new = try smalloc.alloc(3)
        #expect(
            failure { () throws(SmallocError) in try new.rename(to: name) }?.status
                == .alreadyExists)
        try new.rename(to: name, replacing: true)
        #expect(try smalloc.open(name).length == 3)
        #expect(
            failure { () throws(SmallocError) in _ = try old.numbers() }?.status == .noData)
        try smalloc.create(name + "x", 4)
        try smalloc.rename(name + "x", to: name, replacing: true)
        #expect(try smalloc.open(name).length == 4)
        #expect(
            failure { () throws(SmallocError) in _ = try new.numbers() }?.status == .noData)
        try smalloc.dispose(named: name)
    }

    @Test("a listing in pages tells every name once")
    func pages() throws {
        let prefix = SharedDaemon.name("pages") + "/"
        let names = Set((0..<300).map { "\(prefix)\($0)" })
        for name in names { try smalloc.create(name, 1) }
        var seen: [String] = []
        var pages = 0
        for page in try smalloc.pages(prefix, limit: 10) {
            seen += try page.get().map(\.name)
            pages += 1
        }
        #expect(seen.count == 300)
        #expect(Set(seen) == names)
        #expect(pages > 2)
        for name in names { try smalloc.dispose(named: name) }
        #expect(try smalloc.list(prefix).isEmpty)
    }

    @Test("threads may share a connection and an allocation")
    func threads() async throws {
        let a = try smalloc.alloc(8, .int32)
        await withTaskGroup(of: Void.self) { group in
            for thread in 0..<8 {
                group.addTask {
                    for round in 1...200 {
                        a[thread] = Double(round)
                        if a[thread] != Double(round) { a[99] = 0 }
                        _ = try? smalloc.alloc(3)
                    }
                }
            }
        }
        try a.throwIfFailed()
        #expect(try a.numbers() == Array(repeating: 200, count: 8))
    }
}

@Suite("Unreported failures", .timed, .serialized)
struct UnreportedFailureTests {
    @Test("a failure that nobody asked for is told when the allocation goes")
    func told() throws {
        let smalloc = try SharedDaemon.connect()
        let told = Told()
        let before = Smalloc.unreportedFailureHandler
        defer { Smalloc.unreportedFailureHandler = before }
        Smalloc.unreportedFailureHandler = { told.add($0) }
        do {
            let a = try smalloc.alloc(1)
            a[77] = 1
        }
        #expect(told.messages.contains("start > length"))
        let nothing = Holder()
        nothing[0] = 1
        #expect(nothing[0].isNaN)
        #expect(told.messages.filter { $0 == "object has no external array data" }.count >= 2)
    }

    private final class Told: Sendable {
        private let state = Guarded<[String]>([])
        func add(_ error: SmallocError) { state.withLock { $0.append(error.message) } }
        var messages: [String] { state.withLock { $0 } }
    }
}
