// What the program's exit statuses mean, as README.md says it too. core/error.h has the failures.
#pragma once

#include <utility>

namespace mxmla::app {

constexpr std::pair<int, const char*> kExitStatuses[] = {
    {0, "success"},
    {1, "a bug in mxmla"},
    {2, "bad flag or value"},
    {3, "no such model folder"},
    {4, "a file of the model is missing"},
    {5, "bad config.json"},
    {6, "unknown architecture"},
    {7, "unknown quantisation"},
    {8, "malformed safetensors"},
    {9, "a tensor missing, unexpected, misshapen or mistyped"},
    {10, "NaN or infinity in norms or routers; in any weight or scale with inspect --check"},
    {11, "tokenizer and model disagree on the vocabulary"},
    {12, "prompt longer than the context"},
    {13, "token id out of range"},
    {14, "output cannot be written"},
    {15, "device not there (--device cuda)"},
    {16, "unusable tokenizer"},
    {17, "unknown chat template"},
    {18, "bad data file"},
    {19, "out of memory"},
    {20, "a view that no kernel honours"},
    {130, "ended by Ctrl-C"},
};

}  // namespace mxmla::app
