// Numbers in a text, as a table's file or `read` has them: any number of them, in constant memory.

import Smalloc

/// Bytes of elements that are written together.
private let writtenSize = 16 << 20

/// Writes the numbers in a text, to its end.
///
/// - Parameters:
///   - file: Read from where it stands.
///   - lines: Lines at its beginning that are left out.
///   - allocation: Written to.
///   - start: First element.
///   - progress: Told of the text's bytes.
/// - Throws: `.invalidArgument` for what is no number of the type, with its line;
///   `.outOfRange` when there are more than the allocation has room for. What was written before
///   stays: 16 MiB of elements at a time.
func writeNumbers(
    of file: InputFile, skippingLines lines: Int, into allocation: Allocation, at start: Int,
    progress: inout Progress
) throws {
    var numbers = NumberText(allocation.type, skippingLines: lines)
    let room = try ElementRange(allocation, from: start).count
    var written = 0
    func write() throws {
        let count = numbers.bytes.count / allocation.type.size
        guard count <= room - written else {
            throw SmallocError.outOfRange("start + count > length").detailed(
                "\(file.path): start \(start), count \(written + count) or more, "
                    + "length \(allocation.length)")
        }
        try numbers.bytes.withUnsafeBytes { try allocation.write($0, at: start + written) }
        written += count
        numbers.bytes.removeAll(keepingCapacity: true)
        TimeLimit.restart()
    }
    let block = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 16)
    defer { block.deallocate() }
    var done = 0
    while true {
        let size = try file.read(into: block)
        do throws(NumberText.Malformed) {
            // Millions of numbers take their time, too.
            try TimeLimit.paused { () throws(NumberText.Malformed) in
                try numbers.take(UnsafeRawBufferPointer(rebasing: block[..<size]))
                if size < block.count { try numbers.end() }
            }
        } catch {
            throw SmallocError.invalidArgument(
                "\(error.reason) (line \(error.line) of \(printable(file.path)))")
        }
        done += size
        progress.update(done)
        if size < block.count { break }
        if numbers.bytes.count >= writtenSize { try write() }
    }
    try write()
    progress.end()
}

/// The numbers of a text that comes in pieces.
struct NumberText {
    /// What is wrong, and where.
    struct Malformed: Error, Equatable {
        let line: Int
        let reason: String
    }

    /// Elements that have been read, and not taken by the caller.
    var bytes: [UInt8] = []

    private let type: ElementType
    private var linesToSkip: Int
    private var line = 1
    /// The number that is being read.
    private var word: [UInt8] = []
    /// Whether the line has one.
    private var hasNumber = false
    /// The comma, or its like, that was the last thing on the line; nil: a number was.
    private var separator: UInt8?
    /// How the first line that has numbers ends: in a separator, or nil.
    private var ending: (line: Int, separator: UInt8?)?

    /// Bytes of a number at the most.
    private static let wordSizeMax = 1100

    /// - Parameters:
    ///   - type: What the numbers are stored as.
    ///   - lines: Lines at the beginning that are left out.
    init(_ type: ElementType, skippingLines lines: Int) {
        self.type = type
        linesToSkip = lines
    }

    /// Reads a piece.
    mutating func take(_ text: UnsafeRawBufferPointer) throws(Malformed) {
        let isComplex = type == .complexFloat || type == .complexDouble
        for byte in text {
            if linesToSkip > 0 {
                if byte == UInt8(ascii: "\n") { nextLine() }
                continue
            }
            switch byte {
            case UInt8(ascii: "\n"):
                try endLine()
                nextLine()
            case UInt8(ascii: " "), 0x09, 0x0B...0x0D: try endWord()
            case UInt8(ascii: ",") where isComplex: try add(byte)
            case UInt8(ascii: ","), UInt8(ascii: ";"), UInt8(ascii: "|"):
                try endWord()
                // A value that is missing would move all behind it to a wrong place.
                guard hasNumber, separator == nil else {
                    throw Malformed(
                        line: line,
                        reason: "a number is missing before \(Character(Unicode.Scalar(byte)))")
                }
                separator = byte
            default: try add(byte)
            }
        }
    }

    /// The text ends here.
    mutating func end() throws(Malformed) { try endLine() }

    /// Some tables have a separator behind each line's last value; of a single line it tells that
    /// this value is missing.
    private mutating func endLine() throws(Malformed) {
        try endWord()
        guard hasNumber else { return }
        let first = ending ?? (line, separator)
        ending = first
        switch (first.separator, separator) {
        case (nil, nil), (_?, _?): break
        case (nil, let last?):
            throw Malformed(
                line: line,
                reason: "a number is missing behind \(Character(Unicode.Scalar(last)))")
        case (let last?, nil):
            throw Malformed(
                line: first.line,
                reason: "a number is missing behind \(Character(Unicode.Scalar(last))) "
                    + "as line \(line) does not end so")
        }
    }

    private mutating func nextLine() {
        line += 1
        if linesToSkip > 0 { linesToSkip -= 1 }
        (hasNumber, separator) = (false, nil)
    }

    private mutating func add(_ byte: UInt8) throws(Malformed) {
        guard word.count < NumberText.wordSizeMax else { throw malformed() }
        word.append(byte)
    }

    private mutating func endWord() throws(Malformed) {
        // Some programs begin a text with a mark of its encoding.
        if bytes.isEmpty, line == 1, word.starts(with: [0xEF, 0xBB, 0xBF]) { word.removeFirst(3) }
        guard !word.isEmpty else { return }
        var element: (UInt64, UInt64) = (0, 0)
        let text = String(decoding: word, as: UTF8.self)
        guard type.store(text: text, at: &element) else { throw malformed() }
        withUnsafeBytes(of: element) { bytes += $0[..<type.size] }
        word.removeAll(keepingCapacity: true)
        (hasNumber, separator) = (true, nil)
    }

    private func malformed() -> Malformed {
        let text = printable(String(decoding: word.prefix(64), as: UTF8.self))
        let kind = type.isDouble && type != .bool ? "number" : type.name
        return Malformed(line: line, reason: "no \(kind): \(text)")
    }
}
