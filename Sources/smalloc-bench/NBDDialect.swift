/// The protocol of network block devices, as nbdkit speaks it: a target is a part of one disk.
///
/// It has nothing but reads and writes; what is made or disposed of is written with other bytes.
struct NBDDialect: Dialect {
    /// In requests and replies alike, behind the magic and 4 bytes of flags and type, or error.
    let cookieOffset: Int? = 8

    /// Bytes of the disk: room for every point's targets.
    static let diskSize = 1 << 30

    private enum Command: UInt16 {
        case read = 0
        case write = 1
    }

    /// What nbdkit answers to the oldest option, which asks for nothing: no haggling is measured.
    func greet(send: ([UInt8]) throws -> Void, receive: (Int) throws -> [UInt8]) throws {
        let hello = try receive(18)
        guard Array(hello.prefix(16)) == Array("NBDMAGICIHAVEOPT".utf8) else {
            throw BenchError.setup("nbdkit greets with other words")
        }
        // Fixed new style, and no zeros behind the size of the disk; then the default export.
        try send([0, 0, 0, 3] + Array("IHAVEOPT".utf8) + [0, 0, 0, 1, 0, 0, 0, 0])
        let size = try receive(10).prefix(8).reduce(0) { $0 << 8 | Int($1) }
        guard size == Self.diskSize else {
            throw BenchError.setup("nbdkit has a disk of \(size) bytes")
        }
    }

    func ping(_ batch: inout BatchBuilder) {
        preconditionFailure("no point asks a block device for a ping")
    }

    func create(_ target: Target, size: Int, _ batch: inout BatchBuilder) {
        put(target, .zeros(size), &batch)
    }

    func createFilled(_ target: Target, size: Int, _ batch: inout BatchBuilder) {
        write(target, size: size, &batch)
    }

    func read(_ target: Target, content: Pattern.Content, _ batch: inout BatchBuilder) {
        request(.read, target, content.size, &batch)
        batch.reply.append(content, of: batch.pattern)
    }

    func write(_ target: Target, size: Int, _ batch: inout BatchBuilder) {
        put(target, target.content(size), &batch)
    }

    func dispose(_ target: Target, _ batch: inout BatchBuilder) {
        preconditionFailure("no point disposes of a part of a disk")
    }

    func copy(
        _ source: Target, to destination: Target, size: Int, _ batch: inout BatchBuilder
    ) -> Bool { false }

    private func put(_ target: Target, _ content: Pattern.Content, _ batch: inout BatchBuilder) {
        request(.write, target, content.size, &batch)
        batch.request.append(content, of: batch.pattern)
    }

    /// A request without its data, and a simple reply without its data.
    private func request(
        _ command: Command, _ target: Target, _ size: Int, _ batch: inout BatchBuilder
    ) {
        batch.cookie(at: 8)
        batch.request.bytes.append(littleEndian: UInt32(0x2560_9513).byteSwapped)
        batch.request.bytes.append(littleEndian: UInt16(0))
        batch.request.bytes.append(littleEndian: command.rawValue.byteSwapped)
        batch.request.bytes.append(littleEndian: UInt64(0))
        batch.request.bytes.append(littleEndian: UInt64(target.number * size).byteSwapped)
        batch.request.bytes.append(littleEndian: UInt32(size).byteSwapped)
        batch.reply.bytes.append(littleEndian: UInt32(0x6744_6698).byteSwapped)
        batch.reply.bytes.append(littleEndian: UInt32(0))
        batch.reply.bytes.append(littleEndian: UInt64(0))
    }
}
