// gpu/platform.h asks for it; core/dtype.h has what it needs of bf16.
#pragma once
