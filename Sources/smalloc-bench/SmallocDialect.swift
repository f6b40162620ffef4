/// Smalloc's binary frames, written from the protocol's document rather than from the daemon's
/// code, so that a mistake there can't hide here.
struct SmallocDialect: Dialect {
    let cookieOffset: Int? = 8

    /// Numbers of `protocol/values.json`.
    enum Operation {
        static let hello: UInt8 = 1
        static let ping: UInt8 = 2
        static let alloc: UInt8 = 3
        static let open: UInt8 = 4
        static let list: UInt8 = 7
        static let read: UInt8 = 8
        static let write: UInt8 = 9
        static let fill: UInt8 = 10
        static let copy: UInt8 = 11
        static let dispose: UInt8 = 12
        static let stats: UInt8 = 15
        static let atomic: UInt8 = 20
    }
    static let vectored: UInt8 = 1
    static let noHandle: UInt8 = 2
    static let uint8: UInt8 = 2
    static let headerSize = 40
    /// The action of an atomic that adds.
    static let add: UInt64 = 3

    /// The hello frame alone; its reply's payload varies.
    func hello(_ bytes: inout ByteBuilder) {
        frame(&bytes, magic: 0xe5, operation: Operation.hello)
    }

    func ping(_ batch: inout BatchBuilder) {
        batch.cookie(at: 8)
        frame(&batch.request.bytes, magic: 0xe5, operation: Operation.ping)
        frame(&batch.reply.bytes, magic: 0xe6, operation: Operation.ping)
    }

    func create(_ target: Target, size: Int, _ batch: inout BatchBuilder) {
        batch.cookie(at: 8)
        frame(
            &batch.request.bytes, magic: 0xe5, operation: Operation.alloc, flags: Self.noHandle,
            nameSize: ByteBuilder.nameSize, type: Self.uint8, payload: ByteBuilder.nameSize,
            size: size)
        batch.request.bytes.append(nameOf: target)
        frame(
            &batch.reply.bytes, magic: 0xe6, operation: Operation.alloc, type: Self.uint8,
            size: size)
    }

    func createFilled(_ target: Target, size: Int, _ batch: inout BatchBuilder) {
        create(target, size: size, &batch)
        write(target, size: size, &batch)
    }

    func read(_ target: Target, content: Pattern.Content, _ batch: inout BatchBuilder) {
        batch.cookie(at: 8)
        request(Operation.read, target, size: content.size, &batch)
        frame(
            &batch.reply.bytes, magic: 0xe6, operation: Operation.read, type: Self.uint8,
            payload: content.size, size: content.size)
        batch.reply.append(content, of: batch.pattern)
    }

    func write(_ target: Target, size: Int, _ batch: inout BatchBuilder) {
        batch.cookie(at: 8)
        request(Operation.write, target, size: size, more: size, &batch)
        batch.request.append(target.content(size), of: batch.pattern)
        frame(&batch.reply.bytes, magic: 0xe6, operation: Operation.write, size: size)
    }

    /// Appends a fill of the whole target with one byte, which only this protocol has.
    func fill(_ target: Target, size: Int, _ batch: inout BatchBuilder) {
        batch.cookie(at: 8)
        request(Operation.fill, target, size: size, more: 1, &batch)
        batch.request.bytes.append(littleEndian: UInt8(0x5a))
        frame(&batch.reply.bytes, magic: 0xe6, operation: Operation.fill, size: size)
    }

    /// Appends an atomic that adds 0 to the first element of a target of zeros.
    ///
    /// So each reply is the same.
    func atomic(_ target: Target, _ batch: inout BatchBuilder) {
        batch.cookie(at: 8)
        request(Operation.atomic, target, more: 24, &batch)
        for number in [Self.add, 0, 0] { batch.request.bytes.append(littleEndian: number) }
        frame(
            &batch.reply.bytes, magic: 0xe6, operation: Operation.atomic, type: Self.uint8,
            payload: 8, size: 8)
        batch.reply.bytes.append(littleEndian: UInt64(0))
    }

    func dispose(_ target: Target, _ batch: inout BatchBuilder) {
        batch.cookie(at: 8)
        request(Operation.dispose, target, &batch)
        frame(&batch.reply.bytes, magic: 0xe6, operation: Operation.dispose)
    }

    func copy(
        _ source: Target, to destination: Target, size: Int, _ batch: inout BatchBuilder
    ) -> Bool {
        batch.cookie(at: 8)
        let byName = destination.handle == 0
        request(
            Operation.copy, source, size: size, more: 16 + (byName ? ByteBuilder.nameSize : 0),
            &batch)
        batch.request.bytes.append(littleEndian: UInt64(0))
        batch.request.bytes.append(littleEndian: destination.handle)
        batch.request.bytes.append(littleEndian: UInt32(byName ? ByteBuilder.nameSize : 0))
        if byName { batch.request.bytes.append(nameOf: destination) }
        frame(&batch.reply.bytes, magic: 0xe6, operation: Operation.copy, size: size)
        return true
    }

    /// The request that opens a target; its reply carries a new handle.
    func open(_ target: Target, _ bytes: inout ByteBuilder) {
        frame(
            &bytes, magic: 0xe5, operation: Operation.open, nameSize: ByteBuilder.nameSize,
            payload: ByteBuilder.nameSize)
        bytes.append(nameOf: target)
    }

    /// A request on a target, by its handle if it has one, else by its name.
    private func request(
        _ operation: UInt8, _ target: Target, size: Int = 0, more: Int = 0,
        _ batch: inout BatchBuilder
    ) {
        let nameSize = target.handle == 0 ? ByteBuilder.nameSize : 0
        frame(
            &batch.request.bytes, magic: 0xe5, operation: operation, nameSize: nameSize,
            handle: target.handle, payload: nameSize + more, size: size)
        if nameSize > 0 { batch.request.bytes.append(nameOf: target) }
    }

    /// Appends a header; the payload, of `payload` bytes, is the caller's to append.
    func frame(
        _ bytes: inout ByteBuilder, magic: UInt8, operation: UInt8, flags: UInt8 = 0,
        nameSize: Int = 0, type: UInt8 = 0, handle: UInt32 = 0, payload: Int = 0, offset: Int = 0,
        size: Int = 0
    ) {
        bytes.append(littleEndian: magic)
        bytes.append(littleEndian: UInt8(1))
        bytes.append(littleEndian: operation)
        bytes.append(littleEndian: flags)
        bytes.append(littleEndian: UInt16(0))
        bytes.append(littleEndian: UInt8(nameSize))
        bytes.append(littleEndian: type)
        bytes.append(littleEndian: UInt64(0))
        bytes.append(littleEndian: handle)
        bytes.append(littleEndian: UInt32(payload))
        bytes.append(littleEndian: UInt64(offset))
        bytes.append(littleEndian: UInt64(size))
    }
}
