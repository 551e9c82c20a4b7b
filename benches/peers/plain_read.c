/* Reads a whole file with two threads, 1 MiB at a time in spans of 16 MiB, and does nothing with it: the limit of any program
   that sums a file in page cache. Prints seconds, once per repeat. usage: plain_read FILE */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 1 << 20, SPAN = 16 << 20, REPEATS = 5 };
static int file;
static long size, next;

static void *read_spans(void *unused) {
  char *block = aligned_alloc(4096, BLOCK);
  (void)unused;
  for (;;) {
    long at = __atomic_fetch_add(&next, SPAN, __ATOMIC_RELAXED);
    if (at >= size) break;
    for (long k = at; k < at + SPAN && k < size; k += BLOCK)
      if (pread(file, block, BLOCK, k) <= 0) exit(1);
  }
  free(block);
  return 0;
}

int main(int count, char **words) {
  struct stat facts;
  if (count != 2 || (file = open(words[1], O_RDONLY)) < 0 || fstat(file, &facts)) return 2;
  size = facts.st_size;
  for (int r = 0; r < REPEATS; r++) {
    struct timespec a, b;
    pthread_t other;
    next = 0;
    clock_gettime(CLOCK_MONOTONIC, &a);
    pthread_create(&other, 0, read_spans, 0);
    read_spans(0);
    pthread_join(other, 0);
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%f\n", b.tv_sec - a.tv_sec + 1e-9 * (b.tv_nsec - a.tv_nsec));
  }
}
