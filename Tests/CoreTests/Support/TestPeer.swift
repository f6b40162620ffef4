// The other half of a session, without sockets: feeds it bytes, moves what it says must be moved.

import Dispatch
import Glibc

@testable import SmallocCore
import SmallocWire

/// A daemon's memory and one loop, for tests.
struct TestDaemon {
    let registry: Registry
    let loop: LoopContext

    init(
        warmSizeMax: Int = 0, nameHash: NameHash = NameHash(),
        mappingsMax: UInt64 = SystemMemory.mappingsMax, mapsFiles: Bool = true,
        _ change: (inout Limits) -> Void = { _ in }
    ) {
        var limits = Limits()
        change(&limits)
        registry = Registry(
            limits: SharedLimits(limits), loops: 1, warmSizeMax: warmSizeMax, nameHash: nameHash,
            mappingsMax: mappingsMax, mapsFiles: mapsFiles)!
        loop = LoopContext(registry: registry, index: 0)
    }

    /// A connection, and one that has said hello.
    ///
    /// - Parameter mapping: Whether it can be sent descriptors.
    func connect(mapping: Bool = false) -> TestPeer { TestPeer(loop, takesDescriptors: mapping) }

    func greeted(mapping: Bool = false) -> TestPeer {
        let peer = connect(mapping: mapping)
        peer.feed(frame(.hello))
        peer.output = []
        return peer
    }

    /// Has connections answer what waited and is over.
    func tellWaits() { loop.tellWaits() }

    /// The time of all waits is up that have one.
    func expireWaits() {
        while !loop.waits.expire(now: .max - 1) {}
        loop.tellWaits()
    }

    /// Charged bytes once the reclaiming thread has done all that it was given, but for those of
    /// events, which stay.
    var settledSize: UInt64 {
        registry.mappings.drain()
        // The kernel may tell a moment later that what clients held has gone.
        for _ in 0..<200 where (registry.mappings.shares?.heldSize ?? 0) > 0 {
            registry.returnMemory()
            registry.mappings.drain()
            usleep(1000)
        }
        return registry.budget.usedSize - registry.events.chargedSize
    }
}

/// One connection: does with a session what the daemon's peer does, and keeps all output.
final class TestPeer {
    let loop: LoopContext
    var session: Session
    /// Input that is not consumed yet.
    var tail: [UInt8] = []
    /// All that has left.
    var output: [UInt8] = []
    var isClosed = false
    /// Most bytes that stood in the loop's output after one call of `serve`.
    var largestOutput = 0
    /// Most bytes of input that a session left to be kept.
    var largestTail = 0
    var pauses = 0
    /// How often it let others go first.
    var turns = 0
    /// Whether large writes are received straight into the allocation.
    var receivesDirectly = true
    /// Whether output, pieces to send and work move on; else the session stays paused.
    var moves = true
    /// Whether it receives the descriptors that it is sent.
    var receivesDescriptors = true

    /// Descriptors of the last replies that came with any; closed when others come.
    private(set) var descriptors: [Int32] = []

    init(
        _ loop: LoopContext, owner: UInt32 = Session.noOwner, takesDescriptors: Bool = false
    ) {
        self.loop = loop
        session = Session(owner: owner, takesDescriptors: takesDescriptors)
        session.belong(to: Unmanaged.passUnretained(self).toOpaque())
    }

    /// Closes the descriptors that it was sent.
    func closeDescriptors() {
        for descriptor in descriptors { close(descriptor) }
        descriptors = []
    }

    /// The descriptors that it was sent, which are the caller's now.
    func takeDescriptors() -> [Int32] {
        defer { descriptors = [] }
        return descriptors
    }

    var pause: Session.Pause { session.pause }
    var isBusy: Bool { session.isBusy }
    var hasWaits: Bool { session.hasWaits }
    var isHeldByWait: Bool { session.isHeldByWait }
    var wanted: Int { session.wanted }
    var openHandles: Int { session.caller.handles.count }

    deinit {
        closeDescriptors()
        if session.work == nil { session.end(loop) }
    }

    /// Gives input, and serves it as far as it goes.
    func feed(_ bytes: [UInt8]) {
        tail += bytes
        run()
    }

    func feed(_ text: String) { feed(Array(text.utf8)) }

    /// Gives input in pieces of these sizes, over and over.
    func feed(_ bytes: [UInt8], in sizes: () -> Int) {
        var at = 0
        while at < bytes.count {
            let size = min(max(1, sizes()), bytes.count - at)
            feed(Array(bytes[at..<at + size]))
            at += size
        }
    }

    /// The input ends here.
    func feedEnd() {
        guard !isClosed else { return }
        withExactCopy(of: tail) { session.serveEnd($0, loop) }
        take()
        isClosed = true
    }

    func run() {
        while !isClosed {
            if !tail.isEmpty, receivesDirectly, session.pause == .none {
                let piece = session.receiveRoom(sizeMax: tail.count)
                if piece.count > 0 {
                    let size = min(piece.count, tail.count)
                    piece.copyBytes(from: tail[..<size])
                    tail.removeFirst(size)
                    session.received(size, loop)
                    take()
                    continue
                }
            }
            let consumed = withExactCopy(of: tail) { session.serve($0, loop) }
            session.checkInvariants()
            precondition(consumed >= 0 && consumed <= tail.count, "consumed \(consumed)")
            tail.removeFirst(consumed)
            // What is left while it is paused is the reader's to hold back.
            if session.pause == .none { largestTail = max(largestTail, tail.count) }
            take()
            switch session.pause {
            case .none:
                if consumed == 0 || tail.isEmpty { return }
            case .output:
                pauses += 1
                if !moves { return }
            case .turn:
                turns += 1
                if !moves { return }
            case .send:
                if !moves { return }
                sendAll()
            case .work:
                if !moves { return }
                if session.waitsForMemory {
                    let isBack = DispatchSemaphore(value: 0)
                    session.whenMemoryIsBack { isBack.signal() }
                    isBack.wait()
                    session.memoryIsBack()
                    continue
                }
                // A line that waits: `tellWaits` goes on.
                if session.isHeldByWait { return }
                while session.work?.run() == false {}
                session.finish(loop)
                session.checkInvariants()
                take()
            case .close:
                isClosed = true
            }
        }
    }

    /// What waited is over: answers it where it may be, and goes on, as the daemon's peer does.
    func waitsEnded() {
        guard !isClosed else { return }
        session.deliver(loop)
        session.checkInvariants()
        take()
        if moves { run() }
    }

    /// As when the daemon stops.
    func cancelWaits() -> Bool {
        guard !isClosed, session.cancelWaits(loop) else { return false }
        waitsEnded()
        return true
    }

    /// Lets all pieces leave, in uneven steps, some of them by way of the output.
    func sendAll() {
        var step = 0
        while session.pause == .send {
            step += 1
            if step % 5 == 0 { session.copyNext(sizeMax: 1000 * step, loop) }
            let count = session.fillViews(sizeMax: 40_001, loop)
            take()
            var sent = 0
            for view in UnsafeBufferPointer(start: loop.views, count: count) where sent < 70_001 {
                output += view
                sent += view.count
            }
            session.sent(sent, loop)
            session.checkInvariants()
        }
    }

    /// Moves the loop's output here.
    func take() {
        // As the daemon's peer does.
        if loop.output.pointee.passesDescriptors {
            closeDescriptors()
            let passed = loop.output.pointee.descriptors
            descriptors = [passed.0, passed.1].filter { $0 >= 0 }
            loop.output.pointee.descriptors = (-1, -1)
            if receivesDescriptors { session.received(allBut: 0, loop) }
        }
        guard loop.output.pointee.count > 0 else { return }
        largestOutput = max(largestOutput, loop.output.pointee.count)
        output += loop.output.pointee.bytes
        loop.output.pointee.reset(keeping: 128 * 1024)
    }

    /// Sends a frame and gives back its reply.
    @discardableResult
    func call(
        _ operation: Operation, flags: UInt8 = 0, type: UInt8 = 0, handle: UInt32 = 0,
        name: String = "", offset: UInt64 = 0, size: UInt64 = 0, payload: [UInt8] = []
    ) -> Reply {
        call(
            frame(
                operation, flags: flags, type: type, cookie: 7, handle: handle, name: name,
                offset: offset, size: size, payload: payload))
    }

    @discardableResult
    func call(_ bytes: [UInt8]) -> Reply {
        output = []
        feed(bytes)
        guard let found = replies(in: output), found.count == 1, let reply = found.first else {
            let none = FrameHeader(magic: 0, operation: 0, status: 0xFFFF)
            return Reply(header: none, payload: Array("not one reply".utf8))
        }
        output = []
        return reply
    }

    /// Sends a line and gives back what is answered, without the last line end.
    @discardableResult
    func line(_ text: String) -> String {
        output = []
        feed(text + "\n")
        var answer = String(decoding: output, as: UTF8.self)
        output = []
        if answer.hasSuffix("\n") { answer.removeLast() }
        return answer
    }
}

/// Calls back with the bytes in memory of exactly their size, so that a read beyond is found out.
func withExactCopy<Result>(
    of bytes: [UInt8], _ body: (UnsafeRawBufferPointer) -> Result
) -> Result {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { memory.deallocate() }
    memory.copyBytes(from: bytes)
    return body(UnsafeRawBufferPointer(memory))
}

extension LoopContext {
    /// Has connections of this loop answer what waited and is over.
    func tellWaits() {
        repeat {
            while let next = waits.nextTold() {
                Unmanaged<TestPeer>.fromOpaque(next).takeUnretainedValue().waitsEnded()
            }
        } while waits.hasTold
    }
}
