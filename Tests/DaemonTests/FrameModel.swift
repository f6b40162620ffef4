// The checks of a frame, written down a second time from the specification, for the sweep over all
// fields. Knows two allocations: `a`, 4 bytes, handle 1; `d`, two doubles, handle 2.

import TestSupport

/// What the specification says, in the order in which it says it.
enum FrameModel {
    static func elementSize(_ type: UInt8) -> Int? {
        Vectors.values.elementTypes.first { $0.number == Int(type) }?.size
    }

    static func range(_ offset: UInt64, _ size: UInt64) -> String? {
        offset > 4 || size > 4 - offset ? "outOfRange" : nil
    }

    /// A cursor that no page told means nothing; the daemon may know it for one or refuse it.
    static func list(_ cursor: UInt64) -> String? {
        cursor == 0 ? nil : cursor > 1 << 31 ? "invalidArgument" : "skip"
    }

    static func copy(
        _ offset: UInt64, _ length: UInt64, _ target: UInt64, _ targetLength: UInt64, _ size: UInt64
    ) -> String? {
        let fits =
            size <= length && size <= targetLength && offset <= length - size
            && target <= targetLength - size
        return fits ? nil : "outOfRange"
    }

    /// The status of a frame by §§ 5.3 and 7; nil is ok, "skip" where it would change something.
    static func status(_ frame: TestFrame) -> String? {
        let values = Vectors.values
        if frame.version != 1 { return "unsupportedVersion" }
        if frame.status != 0 { return "malformedRequest" }
        guard let name = values.operations.first(where: { $0.number == Int(frame.operation) })?.name
        else { return "unknownOperation" }
        let known = values.requestFlags.filter { $0.operations.contains(name) }.reduce(0) {
            $0 | $1.value
        }
        if Int(frame.flags) & ~known != 0 { return "unsupportedFlags" }
        return wrongShape(frame, name) ? "malformedRequest" : result(frame, name)
    }

    private static func wrongShape(_ frame: TestFrame, _ name: String) -> Bool {
        guard Int(frame.nameSize) <= frame.payload.count else { return true }
        let rest = frame.payload.count - Int(frame.nameSize)
        let named = frame.nameSize != 0
        let handled = frame.handle != 0
        if frame.type != 0 && name != "alloc" { return true }
        let hasOffset = [
            "list", "read", "write", "fill", "copy", "atomic", "wait", "notify", "clients",
        ].contains(name)
        if frame.offset != 0 && (!hasOffset || frame.flags & 1 != 0) { return true }
        let hasSize =
            hasOffset && name != "atomic" || ["alloc", "truncate", "slowlog"].contains(name)
            || name == "open" && frame.flags != 0
        if frame.size != 0 && !hasSize { return true }
        switch name {
        case "hello": return named || handled || rest > 64
        case "ping", "stats", "quit", "clients", "slowlog": return named || handled || rest != 0
        case "alloc":
            // The least description has 18 bytes; whole ones are tested elsewhere.
            let isWhole = frame.flags & 32 == 0 ? rest == 0 : rest >= 18
            return handled || !isWhole || (frame.flags & 2 != 0 && !named)
        case "open": return handled || !named || rest != 0
        case "close": return named || !handled || rest != 0
        case "list": return handled || rest != 0
        case "stat", "dispose", "truncate", "map", "unmap", "freeze":
            return named == handled || rest != 0
        case "rename", "fill": return named == handled
        // This sweep has no payload of 24, 4 or 8 bytes.
        case "atomic", "wait", "cancel": return true
        case "notify": return named == handled || rest != 0
        case "read" where frame.flags & 1 == 0: return named == handled || rest != 0
        case "write" where frame.flags & 1 == 0:
            return named == handled || frame.size != UInt64(rest)
        case "copy":
            guard named != handled, rest >= 16 else { return true }
            let target = frame.payload.dropFirst(Int(frame.nameSize))
            // The payloads of this sweep name a handle; anything else is garbage by chance.
            return Array(target) != copyTarget(offset: 0, handle: 2)
        default:  // Vectored, of which the ranges come first.
            if named == handled { return true }
            return (1...1024).contains(frame.size) && frame.size * 16 > UInt64(rest)
        }
    }

    private static func result(_ frame: TestFrame, _ name: String) -> String? {
        let target = String(decoding: frame.payload.prefix(Int(frame.nameSize)), as: UTF8.self)
        let rest = frame.payload.count - Int(frame.nameSize)
        let size: UInt64? =
            target == "a" || frame.handle == 1 ? 4 : target == "d" || frame.handle == 2 ? 16 : nil
        if frame.nameSize > 0, !target.utf8.allSatisfy({ (0x21...0x7E).contains($0) }),
            name != "list"
        {
            return "invalidName"
        }
        switch name {
        case "hello", "ping", "stats", "slowlog": return nil
        case "clients": return list(frame.offset)
        case "list": return list(frame.offset)
        case "alloc":
            guard let unit = elementSize(frame.type) else { return "unknownType" }
            if frame.size > 1 << 20 { return "tooLarge" }
            if frame.size % UInt64(unit) != 0 { return "invalidArgument" }
            return target == "a" ? "alreadyExists" : "skip"
        case "rename":
            return rest == 0 ? "invalidName" : size == nil ? renameTarget(frame) : "skip"
        case "stat": return size == nil ? "noData" : nil
        // It would wait.
        case "open" where frame.size != 0: return "skip"
        case "open" where frame.flags & 2 != 0: return "noData"
        case "truncate", "dispose", "close", "open", "map", "unmap", "freeze":
            return size == nil || (name == "open" && target != "a") ? "noData" : "skip"
        case "fill":
            guard size != nil else { return "noData" }
            if rest == 0 || rest > 64 { return "invalidArgument" }
            let isMultiple = frame.size % UInt64(rest) == 0
            return bounds(size, frame.offset, frame.size) ?? (isMultiple ? nil : "invalidArgument")
        case "read" where frame.flags & 1 == 0, "write" where frame.flags & 1 == 0:
            return bounds(size, frame.offset, frame.size)
        case "read", "write":
            return (1...1024).contains(frame.size) ? "skip" : "invalidArgument"
        case "copy":
            guard let size else { return "noData" }
            return copy(frame.offset, size, 0, 16, frame.size)
        // There is no Int32 here.
        case "notify": return size == nil ? "noData" : "invalidArgument"
        default: return "skip"
        }
    }

    private static func renameTarget(_ frame: TestFrame) -> String? {
        let name = frame.payload.dropFirst(Int(frame.nameSize))
        return name.allSatisfy { (0x21...0x7E).contains($0) } ? "noData" : "invalidName"
    }

    private static func bounds(_ length: UInt64?, _ offset: UInt64, _ size: UInt64) -> String? {
        guard let length else { return "noData" }
        return offset > length || size > length - offset ? "outOfRange" : nil
    }
}
