// Makes the daemon's calls for memory and threads fail, when a test says so.
#ifndef CFAULTS_H
#define CFAULTS_H
#include <stdbool.h>

/// From now on, lets `after` calls of a kind (`SMALLOC_FAULT_...`) succeed and fails the `count`
/// behind them: those of the calling thread, or of every thread.
void faults_arm(int kind, int after, int count, bool every_thread);
/// Lets all calls succeed again.
///
/// Returns how many have failed since `faults_arm`.
int faults_disarm(void);
/// Opens a path with the rights of another user, for this call of this thread; needs root.
int faults_open_as(unsigned user, const char *path, int flags);
/// Puts the first page of a file into a pipe, where it stays in hand until the pipe goes.
bool faults_take_page(int file, int pipe);

/// Puts a page that is mapped into a pipe, which has it in hand then.
bool faults_take_mapped_page(const void *page, int pipe);
#endif
