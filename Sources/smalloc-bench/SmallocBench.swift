// The program: its subcommands.

import ArgumentParser

@main
struct SmallocBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "smalloc-bench",
        abstract: "Measures smallocd, by the clock and by counting instructions.",
        subcommands: [
            RunCommand.self, InstructionsCommand.self, TurnsCommand.self, MappedCommand.self,
            SharingCommand.self, NullServer.self, Pinger.self,
        ],
        defaultSubcommand: RunCommand.self)
}
