// Answers as lines of text.

#if canImport(Glibc)
    internal import Glibc
#endif

/// Writes the reply lines of one request into an output buffer.
public struct TextReplies: ReplyWriter, ~Copyable {
    private let output: UnsafeMutablePointer<Output>
    private let format: TextFormat
    private var type = ElementType.uint8
    /// Items of a listing told so far, over all its pages.
    public var listed: UInt64
    private var statistics: UInt64 = 0

    /// - Parameters:
    ///   - output: Must outlive this writer.
    ///   - listed: Items that earlier pages of the same listing told.
    public init(
        output: UnsafeMutablePointer<Output>, format: TextFormat = .numbers, listed: UInt64 = 0
    ) {
        self.output = output
        self.format = format
        self.listed = listed
    }

    /// Goes on with data that `beginData` of an earlier writer announced.
    public init(
        continuing type: ElementType, output: UnsafeMutablePointer<Output>, format: TextFormat
    ) {
        self.init(output: output, format: format)
        self.type = type
    }

    /// See `ReplyWriter.ok`.
    public mutating func ok() { output.pointee.append("OK\n") }

    /// See `ReplyWriter.mapped`: text mode has no verb that it answers.
    public mutating func mapped(_ status: MapStatus, _ descriptors: (Int32, Int32)) { ok() }

    /// See `ReplyWriter.done`.
    public mutating func done(size: UInt64) { ok() }

    /// See `ReplyWriter.opened`.
    public mutating func opened(handle: UInt32, type: ElementType, size: UInt64) { ok() }

    /// See `ReplyWriter.hello`.
    public mutating func hello(_ limits: Limits, features: UInt64, sharesMax: UInt64) { ok() }

    /// See `ReplyWriter.pong`.
    public mutating func pong() { output.pointee.append("OK pong\n") }

    /// See `ReplyWriter.bye`.
    public mutating func bye() { output.pointee.append("OK bye\n") }

    /// See `ReplyWriter.error`.
    public mutating func error(_ error: SmallocError) {
        output.pointee.append("ERR \(error.status.name) \(error)\n")
    }

    /// See `ReplyWriter.stat`.
    public mutating func stat(
        _ status: AllocationStatus, name: UnsafeRawBufferPointer, metadata: UnsafeRawBufferPointer
    ) {
        output.pointee.append("OK name=")
        append(name)
        let length = status.size >> UInt64(status.type.shift)
        output.pointee.append(
            " type=\(status.type.name) length=\(length) size=\(status.size)"
                + " handles=\(status.handles) storage=\(status.storage.name)"
                + " created=\(TextReplies.utc(milliseconds: status.created))"
                + " flags=\(status.flags.text) maps=\(status.maps.name)"
                + " owner=\(status.owner.map { "\($0)" } ?? "none")")
        if let shape = status.shape { output.pointee.append(" shape=\(shape)") }
        if metadata.count > 0 {
            output.pointee.append(" meta=base64:")
            TextBytes.encodeBase64(metadata, to: &output.pointee)
        }
        if status.lease.milliseconds != .max {
            output.pointee.append(" lease=\(status.lease.milliseconds)")
        }
        if status.lease.left != .max {
            output.pointee.append(" leaseLeft=\(status.lease.left)")
        }
        output.pointee.append(0x0A)
    }

    /// See `ReplyWriter.data`.
    public mutating func data(_ bytes: UnsafeRawPointer, _ size: Int, type: ElementType) {
        beginData(size: size, type: type)
        appendData(bytes, size)
        endData()
    }

    /// See `ReplyWriter.old`.
    public mutating func old(_ value: UInt64, type: ElementType) {
        // The low bytes come first: they are the element.
        withUnsafeBytes(of: value.littleEndian) { bytes in
            guard let start = bytes.baseAddress else { return }
            data(start, type.size, type: type)
        }
    }

    /// See `ReplyWriter.waited`.
    public mutating func waited(_ result: WaitResult) {
        output.pointee.append("OK \(result.name)\n")
    }

    /// See `ReplyWriter.count`.
    public mutating func count(_ count: UInt64) { output.pointee.append("OK \(count)\n") }

    /// See `ReplyWriter.beginData`.
    public mutating func beginData(size: Int, type: ElementType) {
        self.type = type
        switch format {
        case .numbers: output.pointee.append("OK")
        case .hex: output.pointee.append("OK hex:")
        case .base64: output.pointee.append("OK base64:")
        }
    }

    /// See `ReplyWriter.appendData`.
    public mutating func appendData(_ bytes: UnsafeRawPointer, _ size: Int) {
        switch format {
        case .numbers:
            for offset in stride(from: 0, to: size, by: type.size) {
                output.pointee.append(0x20)
                NumberText.print(type, at: bytes + offset, to: &output.pointee)
            }
        case .hex:
            TextBytes.encodeHex(
                UnsafeRawBufferPointer(start: bytes, count: size), to: &output.pointee)
        case .base64:
            TextBytes.encodeBase64(
                UnsafeRawBufferPointer(start: bytes, count: size), to: &output.pointee)
        }
    }

    /// See `ReplyWriter.endData`.
    public mutating func endData() { output.pointee.append(0x0A) }

    /// See `ReplyWriter.beginList`.
    public mutating func beginList() {}

    /// See `ReplyWriter.listEntry`.
    public mutating func listEntry(name: UnsafeRawBufferPointer, type: ElementType, size: UInt64) {
        listed += 1
        output.pointee.append("ITEM ")
        append(name)
        output.pointee.append(0x20)
        output.pointee.append(type.name)
        output.pointee.append(0x20)
        // At most 2^47, and so a signed number.
        NumberText.print(
            Int64(truncatingIfNeeded: size >> UInt64(type.shift)), to: &output.pointee)
        output.pointee.append(0x0A)
    }

    /// See `ReplyWriter.endList`.
    public mutating func endList(nextCursor: UInt64) {
        if nextCursor == 0 { output.pointee.append("OK \(listed)\n") }
    }

    /// See `ReplyWriter.client`.
    public mutating func client(_ client: ClientStatus) {
        listed += 1
        output.pointee.append(client.text)
        output.pointee.append(0x0A)
    }

    /// See `ReplyWriter.slowRequest`.
    public mutating func slowRequest(_ request: SlowRequest) {
        listed += 1
        output.pointee.append(request.text(time: TextReplies.utc(milliseconds: request.time)))
        append(request.name)
        output.pointee.append(request.name.isEmpty ? "-\n" : "\n")
    }

    /// See `ReplyWriter.endSlowLog`.
    public mutating func endSlowLog(threshold: UInt64) { endList(nextCursor: 0) }

    /// See `ReplyWriter.beginStats`.
    public mutating func beginStats() { statistics = 0 }

    /// See `ReplyWriter.statistic`.
    public mutating func statistic(_ key: String, _ value: UInt64) {
        statistics += 1
        output.pointee.append("STAT \(key) \(value)\n")
    }

    /// See `ReplyWriter.endStats`.
    public mutating func endStats() { output.pointee.append("OK \(statistics)\n") }

    /// Answers `help`: one verb, or all of them.
    public mutating func help(_ verb: RawSpan) {
        let wanted = verb.byteCount <= 16 ? verb.text.lowercased() : "?"
        let found = TextHelp.lines.filter { wanted.isEmpty || $0.verb == wanted }
        if found.isEmpty {
            error(SmallocError(.unknownOperation, .error, "unknown verb; try help"))
            return
        }
        for line in found {
            output.pointee.append("HELP \(line.form)  \(line.meaning)\n")
            guard !wanted.isEmpty else { continue }
            for more in line.more { output.pointee.append("HELP   \(more)\n") }
        }
        ok()
    }

    private func append(_ name: UnsafeRawBufferPointer) {
        guard let start = name.baseAddress else { return }
        output.pointee.append(start, name.count)
    }

    /// `2026-11-23T08:00:00Z`.
    static func utc(milliseconds: UInt64) -> String {
        var seconds = time_t(truncatingIfNeeded: milliseconds / 1000)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func padded(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
        return "\(parts.tm_year + 1900)-\(padded(parts.tm_mon + 1))-\(padded(parts.tm_mday))"
            + "T\(padded(parts.tm_hour)):\(padded(parts.tm_min)):\(padded(parts.tm_sec))Z"
    }
}
