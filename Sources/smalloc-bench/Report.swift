import Foundation

/// Everything that a run measured, as it goes into the JSON file.
struct Report: Codable {
    /// Changes with the meaning of the fields.
    var format = 2
    let date: Date
    let machine: Machine
    /// The words after the program's name that made it.
    let arguments: [String]
    let rounds: Int
    let seconds: Double
    let series: [Series]
    let marks: [Mark]
    /// What could not be measured, or was answered wrongly.
    let failures: [String]

    func write(to path: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        encoder.dateEncodingStrategy = .iso8601
        try encoder.encode(self).write(to: URL(fileURLWithPath: path))
    }

    static func read(from path: String) throws -> Report {
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .iso8601
        return try decoder.decode(
            Report.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    }
}
