// Answers as binary frames.

/// Writes the reply frames of one request into an output buffer.
public struct FrameReplies: ReplyWriter, ~Copyable {
    @usableFromInline let output: UnsafeMutablePointer<Output>
    @usableFromInline let operation: UInt8
    @usableFromInline let cookie: UInt64
    /// Where the header of a reply of unknown size stands, to be completed at its end.
    @usableFromInline var headerAt = 0
    @usableFromInline var entries: UInt64 = 0

    /// - Parameters:
    ///   - output: Must outlive this writer.
    ///   - operation: That of the request, known or not.
    ///   - cookie: That of the request.
    @inlinable
    public init(output: UnsafeMutablePointer<Output>, operation: UInt8, cookie: UInt64) {
        self.output = output
        self.operation = operation
        self.cookie = cookie
        headerAt = 0
        entries = 0
    }

    @inlinable @inline(__always)
    func header(
        status: Status = .ok, nameSize: UInt8 = 0, type: UInt8 = 0, handle: UInt32 = 0,
        payloadSize: Int = 0, offset: UInt64 = 0, size: UInt64 = 0
    ) -> UnsafeMutableRawPointer {
        // A payload is at most `frameSizeMax`, which fits 32 bits.
        let start = output.pointee.reserve(FrameHeader.byteCount + payloadSize)
        FrameHeader(
            magic: FrameHeader.replyMagic, operation: operation, status: status.rawValue,
            nameSize: nameSize, type: type, cookie: cookie, handle: handle,
            payloadSize: UInt32(payloadSize), offset: offset, size: size
        ).write(to: start)
        return start + FrameHeader.byteCount
    }

    /// See `ReplyWriter.ok`.
    @inlinable @inline(__always)
    public mutating func ok() { _ = header() }

    /// See `ReplyWriter.done`.
    @inlinable @inline(__always)
    public mutating func done(size: UInt64) { _ = header(size: size) }

    /// See `ReplyWriter.opened`.
    @inlinable @inline(__always)
    public mutating func opened(handle: UInt32, type: ElementType, size: UInt64) {
        _ = header(type: type.rawValue, handle: handle, size: size)
    }

    /// See `ReplyWriter.mapped`.
    public mutating func mapped(_ status: MapStatus, _ descriptors: (Int32, Int32)) {
        let count: UInt32 = descriptors.0 < 0 ? 0 : descriptors.1 < 0 ? 1 : 2
        let target = header(
            type: status.type.rawValue, payloadSize: 12, offset: status.offset, size: status.size)
        target.storeBytes(of: status.slot.littleEndian, as: UInt32.self)
        target.storeBytes(of: status.generation.littleEndian, toByteOffset: 4, as: UInt32.self)
        target.storeBytes(of: count.littleEndian, toByteOffset: 8, as: UInt32.self)
        output.pointee.descriptors = descriptors
    }

    /// See `ReplyWriter.hello`.
    public mutating func hello(_ limits: Limits, features: UInt64, sharesMax: UInt64) {
        var fields = limits.helloFields
        fields[2] = features
        fields[fields.count - 1] = sharesMax
        var target = header(payloadSize: fields.count * 8)
        for field in fields {
            target.storeBytes(of: field.littleEndian, as: UInt64.self)
            target += 8
        }
    }

    /// See `ReplyWriter.pong`.
    public mutating func pong() { ok() }

    /// See `ReplyWriter.bye`.
    public mutating func bye() { ok() }

    /// See `ReplyWriter.error`.
    public mutating func error(_ error: SmallocError) {
        let message = error.message.utf8
        let target = header(
            status: error.status, type: error.errorClass.rawValue, payloadSize: message.count)
        UnsafeMutableRawBufferPointer(start: target, count: message.count).copyBytes(from: message)
    }

    /// See `ReplyWriter.stat`.
    public mutating func stat(
        _ status: AllocationStatus, name: UnsafeRawBufferPointer, metadata: UnsafeRawBufferPointer
    ) {
        var target = header(
            nameSize: UInt8(name.count), type: status.type.rawValue,
            payloadSize: name.count + 8 * FrameReplies.statNumbers + metadata.count,
            size: status.size)
        if let start = name.baseAddress { target.copyMemory(from: start, byteCount: name.count) }
        target += name.count
        func put(_ number: UInt64) {
            target.storeBytes(of: number.littleEndian, as: UInt64.self)
            target += 8
        }
        put(status.created)
        put(status.handles)
        put(UInt64(status.storage.rawValue))
        put(status.flags.rawValue)
        put(UInt64(status.maps.rawValue))
        put(status.lease.milliseconds)
        put(status.lease.left)
        put(status.owner.map { UInt64($0) } ?? .max)
        put(status.shape.map { UInt64($0.rank) } ?? Shape.noRank)
        for dimension in 0..<Shape.rankMax {
            let isThere = dimension < status.shape?.rank ?? 0
            put(isThere ? status.shape?[dimension] ?? 0 : 0)
        }
        put(UInt64(metadata.count))
        if let start = metadata.baseAddress {
            target.copyMemory(from: start, byteCount: metadata.count)
        }
    }

    /// The numbers that `stat` tells.
    private static var statNumbers: Int { 10 + Shape.rankMax }

    /// See `ReplyWriter.data`.
    @inlinable @inline(__always)
    public mutating func data(_ bytes: UnsafeRawPointer, _ size: Int, type: ElementType) {
        header(type: type.rawValue, payloadSize: size, size: UInt64(size))
            .copyMemory(from: bytes, byteCount: size)
    }

    /// See `ReplyWriter.old`.
    @inlinable @inline(__always)
    public mutating func old(_ value: UInt64, type: ElementType) {
        header(type: type.rawValue, payloadSize: 8, size: 8)
            .storeBytes(of: value.littleEndian, as: UInt64.self)
    }

    /// See `ReplyWriter.waited`.
    public mutating func waited(_ result: WaitResult) { done(size: result.rawValue) }

    /// See `ReplyWriter.count`.
    public mutating func count(_ count: UInt64) { done(size: count) }

    /// See `ReplyWriter.beginData`.
    @inlinable @inline(__always)
    public mutating func beginData(size: Int, type: ElementType) {
        let start = output.pointee.reserve(FrameHeader.byteCount)
        FrameHeader(
            magic: FrameHeader.replyMagic, operation: operation, type: type.rawValue,
            cookie: cookie, payloadSize: UInt32(size), size: UInt64(size)
        ).write(to: start)
    }

    /// See `ReplyWriter.appendData`.
    @inlinable @inline(__always)
    public mutating func appendData(_ bytes: UnsafeRawPointer, _ size: Int) {
        output.pointee.append(bytes, size)
    }

    /// See `ReplyWriter.endData`.
    @inlinable @inline(__always)
    public mutating func endData() {}

    /// See `ReplyWriter.beginList`.
    public mutating func beginList() {
        headerAt = output.pointee.count
        entries = 0
        _ = header()
    }

    /// See `ReplyWriter.listEntry`.
    public mutating func listEntry(name: UnsafeRawBufferPointer, type: ElementType, size: UInt64) {
        let target = output.pointee.reserve(10 + name.count)
        target.storeBytes(of: size.littleEndian, as: UInt64.self)
        target.storeBytes(of: type.rawValue, toByteOffset: 8, as: UInt8.self)
        target.storeBytes(of: UInt8(name.count), toByteOffset: 9, as: UInt8.self)
        if let start = name.baseAddress {
            (target + 10).copyMemory(from: start, byteCount: name.count)
        }
        entries += 1
    }

    /// See `ReplyWriter.endList`.
    public mutating func endList(nextCursor: UInt64) {
        complete(offset: nextCursor, size: entries)
    }

    /// See `ReplyWriter.client`.
    public mutating func client(_ client: ClientStatus) {
        client.append(to: &output.pointee)
        entries += 1
    }

    /// See `ReplyWriter.slowRequest`.
    public mutating func slowRequest(_ request: SlowRequest) {
        request.append(to: &output.pointee)
        entries += 1
    }

    /// See `ReplyWriter.endSlowLog`.
    public mutating func endSlowLog(threshold: UInt64) {
        complete(offset: threshold, size: entries)
    }

    /// See `ReplyWriter.beginStats`.
    public mutating func beginStats() { beginList() }

    /// See `ReplyWriter.statistic`.
    public mutating func statistic(_ key: String, _ value: UInt64) {
        output.pointee.append("\(key) \(value)\n")
    }

    /// See `ReplyWriter.endStats`.
    public mutating func endStats() { complete(offset: 0, size: 0) }

    /// Writes the header of a reply whose payload is in place now.
    private func complete(offset: UInt64, size: UInt64) {
        let payloadSize = output.pointee.count - headerAt - FrameHeader.byteCount
        FrameHeader(
            magic: FrameHeader.replyMagic, operation: operation, cookie: cookie,
            payloadSize: UInt32(payloadSize), offset: offset, size: size
        ).write(to: output.pointee.base + headerAt)
    }
}
