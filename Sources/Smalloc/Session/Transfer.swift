// Bulk transfers of the synchronous face: large ones in chunks, a few of them under way at a time,
// straight between the caller's memory and the socket.

internal import Glibc
internal import SmallocWire

/// How a transfer is split, in bytes.
struct Chunking {
    let chunk: Int
    let inFlight: Int
    /// What is moved before the channel is offered to other threads.
    var turn: Int { chunk * inFlight * 4 }

    init(_ options: ConnectionOptions, _ limits: Limits) {
        let most = Int(clamping: limits.frameSizeMax)
        // Whole elements, whatever the options say; a name never shares the frame.
        chunk = max(8, min(max(options.chunkSize, 4096), most) & ~7)
        inFlight = min(max(options.chunksInFlight, 1), 64)
    }
}

extension Connection {
    /// Reads bytes of an allocation into memory.
    ///
    /// The daemon checks each chunk.
    ///
    /// - Throws: After a failure the memory holds an unspecified part of the bytes; small transfers
    ///   (one chunk) leave it as it was unless the connection broke.
    func read(
        _ remote: Remote, offset: UInt64, into target: UnsafeMutableRawBufferPointer
    ) throws(SmallocError) {
        let target = Memory(target)
        let size = target.count
        var done = 0
        repeat {
            let start = done
            done += try call(on: remote) { channel, context throws(SmallocError) in
                let chunking = Chunking(options, context.limits)
                let turn = min(size - start, chunking.turn)
                try channel.read(
                    remote.handle, offset: offset + UInt64(start),
                    into: target.slice(start, turn), chunking)
                return turn
            }
        } while done < size
    }

    /// Writes bytes into an allocation.
    ///
    /// Of a transfer that takes more than one chunk the end is checked before the first byte moves.
    func write(
        _ remote: Remote, offset: UInt64, from source: UnsafeRawBufferPointer
    ) throws(SmallocError) {
        let source = Memory(source)
        let size = source.count
        var done = 0
        repeat {
            let start = done
            done += try call(on: remote) { channel, context throws(SmallocError) in
                let chunking = Chunking(options, context.limits)
                if start == 0, size > chunking.chunk {
                    let end = Request.read(remote.handle, offset: offset + UInt64(size), size: 0)
                    _ = try channel.exchange(end)
                }
                let turn = min(size - start, chunking.turn)
                try channel.write(
                    remote.handle, offset: offset + UInt64(start),
                    from: source.slice(start, turn), chunking)
                return turn
            }
        } while done < size
    }
}

/// Asks for huge pages under memory that is about to be filled for the first time.
///
/// The first touch of fresh pages costs more than receiving into them; huge ones a fifth of it.
func adviseHuge(_ memory: UnsafeMutableRawBufferPointer) {
    let page = 2 << 20
    guard memory.count >= 2 * page, let base = memory.baseAddress else { return }
    let start = (UInt(bitPattern: base) + UInt(page) - 1) & ~UInt(page - 1)
    let end = (UInt(bitPattern: base) + UInt(memory.count)) & ~UInt(page - 1)
    guard end > start, let aligned = UnsafeMutableRawPointer(bitPattern: start) else { return }
    _ = madvise(aligned, Int(end - start), MADV_HUGEPAGE)
}

/// The caller's memory, borrowed for the duration of a call that blocks the caller.
struct Memory: @unchecked Sendable {
    private let base: UnsafeMutableRawPointer?
    let count: Int

    init(_ buffer: UnsafeMutableRawBufferPointer) {
        base = buffer.baseAddress
        count = buffer.count
    }

    /// For reading only.
    init(_ buffer: UnsafeRawBufferPointer) {
        base = UnsafeMutableRawPointer(mutating: buffer.baseAddress)
        count = buffer.count
    }

    var target: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: base, count: count)
    }
    var source: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

    func slice(_ start: Int, _ size: Int) -> Memory {
        precondition(start >= 0 && size >= 0 && start + size <= count)
        return Memory(UnsafeMutableRawBufferPointer(start: base.map { $0 + start }, count: size))
    }
}

extension Channel {
    /// Reads by as many requests as it takes.
    ///
    /// All that was asked for is received, whatever happens, so that the stream stays in step.
    mutating func read(
        _ handle: UInt32, offset: UInt64, into target: Memory, _ chunking: Chunking
    ) throws(SmallocError) {
        var asked = 0
        var got = 0
        var oldest = cookie &+ 1
        var failure: SmallocError?
        repeat {
            var begun = false
            while asked - got < chunking.chunk * chunking.inFlight,
                asked < target.count || (asked == 0 && !begun), failure == nil
            {
                let size = min(chunking.chunk, target.count - asked)
                begin(
                    Request.read(handle, offset: offset + UInt64(asked), size: UInt64(size)).header)
                end()
                asked += size
                begun = true
            }
            if begun { try send() }
            let size = min(chunking.chunk, asked - got)
            let reply = try receive(oldest, operation: Operation.read.rawValue)
            oldest &+= 1
            if reply.status != 0 {
                let error = SmallocError(reply: reply, message: try message(reply))
                if error.status.closes { throw error }
                failure = failure ?? error
            } else if failure != nil {
                try skipPayload(reply)
            } else {
                guard Int(reply.payloadSize) == size else {
                    throw .unexpectedReply("the answer to read has \(reply.payloadSize) bytes")
                }
                if size > 0 { try take(size, into: target.target.baseAddress! + got) }
            }
            got += size
        } while got < asked || (failure == nil && got < target.count)
        if let failure { throw failure }
    }

    /// Writes by as many requests as it takes, each header and chunk leaving in one system call.
    mutating func write(
        _ handle: UInt32, offset: UInt64, from source: Memory, _ chunking: Chunking
    ) throws(SmallocError) {
        var sent = 0
        var waiting = 0
        var oldest = cookie &+ 1
        var failure: SmallocError?
        var first = true
        while first || waiting > 0 || (failure == nil && sent < source.count) {
            if first || (failure == nil && sent < source.count && waiting < chunking.inFlight) {
                let size = min(chunking.chunk, source.count - sent)
                begin(
                    Request.write(handle, offset: offset + UInt64(sent), size: UInt64(size)).header)
                end(following: size)
                try send(payload: source.slice(sent, size).source)
                sent += size
                waiting += 1
                first = false
                if sent < source.count, waiting < chunking.inFlight { continue }
            }
            let reply = try receive(oldest, operation: Operation.write.rawValue)
            oldest &+= 1
            waiting -= 1
            if reply.status != 0 {
                let error = SmallocError(reply: reply, message: try message(reply))
                if error.status.closes { throw error }
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
    }
}

extension View {
    /// Bytes to move for a range of elements that lies within what is known of the allocation.
    ///
    /// Memory is provided for `size` bytes before the daemon is asked, so a range that can't be
    /// right is put to the daemon first, which says what is wrong with it.
    func bounded(_ start: Int, _ count: Int) throws(SmallocError) -> (offset: UInt64, size: Int) {
        let (offset, size) = try resolve(start, count)
        let held = UInt64(remote.size)
        if offset <= held, size <= held - offset { return (offset, Int(size)) }
        _ = try remote.connection.performForPayload(
            .read(remote.handle, offset: offset, size: size), on: remote)
        throw .outOfRange("start + count > length")
    }

    /// Reads whole elements into memory of `count` elements.
    func read(
        _ start: Int, into target: UnsafeMutableRawBufferPointer
    ) throws(SmallocError) {
        let (offset, _) = try bounded(start, try type.count(bytes: target.count))
        try remote.connection.read(remote, offset: offset, into: target)
    }

    /// Writes whole elements.
    func write(_ start: Int, from source: UnsafeRawBufferPointer) throws(SmallocError) {
        let (offset, _) = try bounded(start, try type.count(bytes: source.count))
        try remote.connection.write(remote, offset: offset, from: source)
    }
}
