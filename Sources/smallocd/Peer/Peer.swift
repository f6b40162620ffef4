// One connection: a uv stream and a Session. Bytes arrive, replies leave, and one of them waits for
// the other when it must.

import CLibuv
import CSmalloc
import Glibc
import SmallocCore
import SmallocWire

/// A connected socket.
///
/// Belongs to its loop's thread; retained from `start` to the close callback.
final class Peer {
    /// Bytes read at first when a large write is expected: its header and name, little of its data.
    private static let bulkHeadSize = 512
    /// How long the other side may take to close after we have said goodbye.
    static let goodbyeMilliseconds: UInt64 = 1000
    /// Payload that counts as progress of an unfinished request.
    private static let progressSize = 65_536

    // Strong, though the loop outlives its peers: what is known to live is not counted at each use.
    let loop: Loop
    let transport: Transport
    /// What others are told of it.
    let record: ClientRecord
    /// Bytes of output that wait for the socket.
    var queuedSize = 0
    // Its loop's thread alone touches a peer, and no method of these two reaches the peer again:
    // checks of exclusive access, at every use, would cost a fifth of a small request.
    @exclusivity(unchecked) var session: Session
    @exclusivity(unchecked) var input = UnconsumedInput()
    var next: Peer?
    unowned(unsafe) var previous: Peer?
    /// The next of those that wait for their turn.
    var nextTurn: Peer?
    /// When what it has to serve was read, in nanoseconds of `Clock.now`.
    private(set) var heldSince: UInt64 = 0

    private(set) var isReading = false
    var isWriting = false
    /// A reply whose descriptors wait until the socket takes them.
    var heldPassing: Passing?
    /// The next of the loop's that wait to pass descriptors.
    var nextPassing: Peer?
    var isWorking = false
    var isWaitingForTurn = false
    var isWaitingForMemory = false
    /// Unconsumed input may hold whole requests.
    private var mustServe = false
    /// Requests that waited are over, and may be answered.
    private var mustDeliver = false
    var inputEnded = false
    private var endServed = false
    /// Everything is said; input is dropped until the other side closes.
    var isLeaving = false
    var isClosing = false
    /// The others have had their turn since the session asked for it.
    private var hasTurn = false
    /// When the last input came, or the last reply left.
    var activeAt: UInt64
    /// When the unfinished request last made progress, and the bytes of it since.
    var progressAt: UInt64
    private var progressed = 0
    /// When reading was paused, or had not begun.
    private var pausedAt: UInt64
    /// Bytes read in full buffers, one right after the other.
    private var burst = 0
    /// The log was told what the client calls itself.
    var isIntroduced = false
    var liveness: Liveness

    /// Takes over a connected descriptor.
    ///
    /// Nil: libuv refuses it; the descriptor is still the caller's.
    init?(_ loop: Loop, _ descriptor: Int32, _ kind: ListeningSocket.Kind, owner: UInt32) {
        let process = kind == .unix ? smalloc_peer_process(descriptor) : -1
        guard
            let record = loop.context.clients.add(
                id: loop.context.registry.nextClient(), owner: owner,
                process: process > 0 ? process : nil, isTCP: kind == .tcp)
        else { return nil }
        guard let transport = Transport(loop.uv, descriptor, kind) else {
            loop.context.clients.remove(record)
            return nil
        }
        self.record = record
        self.loop = loop
        self.transport = transport
        session = Session(owner: owner, takesDescriptors: transport.passesDescriptors)
        liveness = Liveness(now: loop.now)
        activeAt = loop.now
        progressAt = loop.now
        pausedAt = loop.now
        session.belong(to: Unmanaged.passUnretained(self).toOpaque())
        session.tell(by: record)
    }

    /// How much of a large transfer moves at a time.
    var chunkSizes: ChunkSizes {
        loop.recentActivity.chunkSizes(
            of: ObjectIdentifier(self), at: loop.now,
            orElse: transport.kind == .unix ? .coarse : .coarseTCP)
    }

    /// Begins to read.
    ///
    /// The close callback takes the reference back.
    func start() {
        transport.handle.handle.pointee.data = Unmanaged.passRetained(self).toOpaque()
        resume()
    }

    // MARK: Input

    /// Where the next input goes: large payloads straight into their allocation, else the loop's
    /// buffer.
    ///
    /// libuv's contract: the buffer is ours, and comes back in the read callback.
    func buffer() -> uv_buf_t {
        if session.expectsData, input.count == 0, !isLeaving, transport.receivesInPlace {
            let room = session.receiveRoom(sizeMax: chunkSizes.receivedSize)
            if !room.isEmpty { return uv_buf_t(UnsafeRawBufferPointer(room)) }
        }
        return uv_buf_t(
            base: loop.readBuffer.assumingMemoryBound(to: CChar.self),
            len: session.expectsBulk ? Peer.bulkHeadSize : Loop.readSize)
    }

    /// Input came (count > 0), ended, or failed (count < 0).
    ///
    /// 0 is "not now".
    func didRead(_ count: Int, _ buffer: uv_buf_t) {
        assert(loop.context.output.pointee.count == 0, "another peer's replies")
        // The turn is spent: what has arrived waits for the next one.
        if count == Int(UVError.noBuffer) { return isClosing ? () : waitForTurn() }
        if count <= 0 { session.received(0, loop.context) }
        guard !isClosing, count != 0 else { return }
        guard count > 0, let base = buffer.base else {
            isReading = false
            transport.stopReading()
            if count == Int(UVError.endOfFile), !isLeaving {
                inputEnded = true
                run()
            } else {
                close(count == Int(UVError.endOfFile) ? "it has closed too" : "reading failed")
            }
            return
        }
        if isLeaving { return }
        loop.context.counters.add(.bytesRead, UInt64(count))
        record.add(.read, count)
        loop.isActive = true
        activeAt = loop.now
        if input.count == 0, !session.isBusy {
            // What begins now has all its time, however long the connection was silent.
            progressAt = loop.now
            progressed = 0
        }
        if UnsafeMutableRawPointer(base) == loop.readBuffer {
            serve(new: UnsafeRawBufferPointer(start: base, count: count))
        } else {
            session.received(count, loop.context)
        }
        if !isIntroduced, session.isGreeted { introduce() }
        noteProgress(count)
        // libuv reads again, up to 32 times, as long as the buffer came back full.
        burst = count == buffer.len ? burst + count : 0
        if burst > chunkSizes.turn { waitForTurn() }
        run()
    }

    /// Serves new input, in place wherever no earlier piece of a request waits for it.
    private func serve(new bytes: UnsafeRawBufferPointer) {
        var rest = bytes
        while let base = rest.baseAddress, !rest.isEmpty {
            guard input.count > 0 || session.pause != .none else {
                let consumed = session.serve(rest, loop.context)
                if consumed > 0 {
                    progressAt = loop.now
                    if session.pause == .none, !session.isBusy {
                        loop.recentActivity.note(ObjectIdentifier(self), at: loop.now)
                    }
                }
                keep(base + consumed, rest.count - consumed)
                return
            }
            // No more than the unfinished request lacks, so that what follows is served in place.
            let lacking = session.wanted - input.count
            let size = lacking > 0 && session.pause == .none ? min(lacking, rest.count) : rest.count
            keep(base, size)
            rest = UnsafeRawBufferPointer(rebasing: rest[size...])
            if session.pause == .none { serveInput() }
        }
    }

    private func serveInput() {
        let consumed = session.serve(input.bytes, loop.context)
        if consumed > 0 {
            progressAt = loop.now
            input.removeFirst(consumed, loop.context.registry)
            noteWaiting()
        }
    }

    /// Tells others how much waits.
    func noteWaiting() { record[.waiting] = UInt64(queuedSize + input.count) }

    private func keep(_ bytes: UnsafeRawPointer, _ size: Int) {
        guard size > 0, session.pause != .close, !isClosing else { return }
        do throws(SmallocError) {
            try input.append(bytes, size, loop.context.registry)
            noteWaiting()
        } catch {
            // Behind half a reply nothing can be said.
            if session.isAnswering { return close("no memory for its input") }
            session.fail(error, loop.context)
        }
    }

    private func noteProgress(_ count: Int) {
        progressed += count
        if progressed >= Peer.progressSize {
            progressed = 0
            progressAt = loop.now
        }
    }

    func resume() {
        guard !isReading, !isWaitingForTurn, !isClosing, !inputEnded else { return }
        isReading = true
        record[.isPaused] = 0
        // While nothing was read nothing could make progress. The time before that counts, or a
        // request that trickles in had time for ever: each turn that is put off is such a pause.
        progressAt = min(progressAt + (loop.now - pausedAt), loop.now)
        if !transport.startReading() { close("it can't be read") }
    }

    func pauseReading() {
        guard isReading else { return }
        isReading = false
        record[.isPaused] = 1
        pausedAt = loop.now
        transport.stopReading()
    }

    // MARK: The line

    /// Goes on as far as it can: sends what is ready, serves what waits, and then reads again, or
    /// returns to be called when a write, work, or another's turn is over.
    func run() {
        var sent = 0
        while !isClosing {
            if mustDeliver, !isWriting {
                mustDeliver = false
                session.deliver(loop.context)
                // A line that waited has held up those behind it.
                mustServe = true
            }
            // Sending ends the pause, and what waits behind it must be served then.
            if session.pause == .send { mustServe = true }
            guard flush(&sent) else { return }
            if sent > chunkSizes.turn, session.pause != .none {
                return waitForTurn()
            }
            switch session.pause {
            case .none:
                if mustServe {
                    mustServe = false
                    // Also without input: a long answer in text may have more to say.
                    serveInput()
                } else if inputEnded {
                    // They are answered before it ends; what is not whole is not.
                    if session.hasWaits, !session.isBusy, !transport.isGone {
                        return input.removeFirst(input.count, loop.context.registry)
                    }
                    if endServed { return close("its input ended") }
                    session.serveEnd(input.bytes, loop.context)
                    endServed = true
                } else {
                    return resume()
                }
            case .output:
                serveInput()
            case .turn:
                guard hasTurn else { return waitForTurn() }
                hasTurn = false
                serveInput()
            case .send:
                break
            case .work where session.work == nil:
                // An event ends it, or memory that comes back.
                mustServe = true
                pauseReading()
                if session.waitsForMemory { waitForMemory() }
                return
            case .work:
                mustServe = true
                return beginWork()
            case .close:
                return leave()
            }
        }
    }

    /// Lets the loop's other peers go first.
    private func waitForTurn() {
        pauseReading()
        // Where it has waited before, this turn began then.
        heldSince = loop.context.turnStart
        burst = 0
        hasTurn = false
        guard !isWaitingForTurn else { return }
        isWaitingForTurn = true
        loop.turnAgain(self)
    }

    /// The others have had theirs.
    func takeTurn() {
        assert(loop.context.output.pointee.count == 0, "another peer's replies")
        isWaitingForTurn = false
        hasTurn = true
        isLeaving ? resume() : run()
    }

    // MARK: Work

    private func beginWork() {
        guard !isWorking, let work = session.work else { return }
        isWorking = true
        pauseReading()
        if !WorkRequest.start(work, for: self, on: loop.uv) {
            // No thread: better a slow loop than no answer.
            while !work.run() {}
            didWork()
        }
    }

    /// Has the loop told when memory is back; this stays until then.
    private func waitForMemory() {
        guard !isWaitingForMemory else { return }
        isWaitingForMemory = true
        let reference = Loop.PeerReference(peer: self)
        session.whenMemoryIsBack { [loop] in loop.post(.memoryIsBack(reference)) }
    }

    /// The memory is back that was waited for.
    func memoryIsBack() {
        isWaitingForMemory = false
        guard !isClosing else { return }
        session.memoryIsBack()
        activeAt = loop.now
        run()
    }

    /// Requests that waited are over: their replies are put in where no other one is half sent.
    func waitsEnded() {
        // Where it can't go on now, `run` follows; behind a reply that is half sent, `serve`.
        mustDeliver = true
        guard !isClosing, !isLeaving, !isWriting, !isWaitingForTurn else { return }
        activeAt = loop.now
        progressAt = loop.now
        run()
    }

    func didWork() {
        assert(loop.context.output.pointee.count == 0, "another peer's replies")
        isWorking = false
        if isClosing { return endSession() }
        session.finish(loop.context)
        activeAt = loop.now
        run()
    }
}
