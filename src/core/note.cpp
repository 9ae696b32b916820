#include "core/note.h"

#include <atomic>

namespace mxmla {
namespace {

std::atomic<NoteSink> sink_in_use{nullptr};

}  // namespace

void SetNoteSink(NoteSink sink) { sink_in_use = sink; }

void ReportNote(const std::string& line) {
  if (const NoteSink sink = sink_in_use) sink(line);
}

}  // namespace mxmla
