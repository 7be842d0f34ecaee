#include "tests/fuzz/mutate_proto.h"

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "tests/fuzz/fuzz_numbers.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace sluice::testing {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using Rng = FuzzRng;

constexpr int kMaxRepeated = 64;

// Messages that are there, the root first.
void Collect(Message& message, std::vector<Message*>& out) {
  out.push_back(&message);
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      Collect(*reflection.MutableMessage(&message, field), out);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      Collect(*reflection.MutableRepeatedMessage(&message, field, i), out);
    }
  }
}

std::string Text(Rng& rng, const std::string& before) {
  static constexpr const char* kTexts[] = {
      "", "a", "tensor", "*", "**", "{layer}", "{expert}", "w", "x"};
  if (Below(rng, 3) == 0) return before + kTexts[Below(rng, 9)];
  return kTexts[Below(rng, 9)];
}

// Sets a field that is not repeated.
void Set(Rng& rng, Message& message, const FieldDescriptor* field) {
  const Reflection& r = *message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r.SetInt32(
          &message, field,
          static_cast<int32_t>(FuzzNumber(rng, r.GetInt32(message, field))));
    case FieldDescriptor::CPPTYPE_INT64:
      return r.SetInt64(&message, field,
                        FuzzNumber(rng, r.GetInt64(message, field)));
    case FieldDescriptor::CPPTYPE_UINT32:
      return r.SetUInt32(
          &message, field,
          static_cast<uint32_t>(FuzzNumber(rng, r.GetUInt32(message, field))));
    case FieldDescriptor::CPPTYPE_UINT64:
      return r.SetUInt64(
          &message, field,
          static_cast<uint64_t>(FuzzNumber(
              rng, static_cast<int64_t>(r.GetUInt64(message, field)))));
    case FieldDescriptor::CPPTYPE_ENUM:
      return r.SetEnumValue(&message, field, static_cast<int>(Below(rng, 14)));
    case FieldDescriptor::CPPTYPE_BOOL:
      return r.SetBool(&message, field, !r.GetBool(message, field));
    case FieldDescriptor::CPPTYPE_STRING:
      return r.SetString(&message, field,
                         Text(rng, r.GetString(message, field)));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      r.MutableMessage(&message, field);
      return;
    default:
      return;
  }
}

void Add(Rng& rng, Message& message, const FieldDescriptor* field) {
  const Reflection& r = *message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r.AddInt32(&message, field,
                        static_cast<int32_t>(FuzzNumber(rng, 1)));
    case FieldDescriptor::CPPTYPE_INT64:
      return r.AddInt64(&message, field, FuzzNumber(rng, 1));
    case FieldDescriptor::CPPTYPE_UINT32:
      return r.AddUInt32(&message, field,
                         static_cast<uint32_t>(FuzzNumber(rng, 1)));
    case FieldDescriptor::CPPTYPE_STRING:
      return r.AddString(&message, field, Text(rng, ""));
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      const int size = r.FieldSize(message, field);
      Message* const added = r.AddMessage(&message, field);
      if (size > 0) {
        added->CopyFrom(r.GetRepeatedMessage(
            message, field,
            static_cast<int>(Below(rng, static_cast<size_t>(size)))));
      }
      return;
    }
    default:
      return;
  }
}

void Change(Rng& rng, Message& root) {
  std::vector<Message*> messages;
  Collect(root, messages);
  Message& message = *messages[Below(rng, messages.size())];
  const auto& descriptor = *message.GetDescriptor();
  if (descriptor.field_count() == 0) return;
  const FieldDescriptor* const field = descriptor.field(static_cast<int>(
      Below(rng, static_cast<size_t>(descriptor.field_count()))));
  const Reflection& reflection = *message.GetReflection();
  if (!field->is_repeated()) {
    if (Below(rng, 8) == 0) return reflection.ClearField(&message, field);
    return Set(rng, message, field);
  }
  const int size = reflection.FieldSize(message, field);
  if (size > 0 && (size >= kMaxRepeated || Below(rng, 2) == 0)) {
    const int at = static_cast<int>(Below(rng, static_cast<size_t>(size)));
    reflection.SwapElements(&message, field, at, size - 1);
    if (Below(rng, 2) == 0) reflection.RemoveLast(&message, field);
    return;
  }
  if (!field->is_map()) Add(rng, message, field);
}

}  // namespace

size_t MutateProto(Message& message, uint8_t* data, size_t size,
                   size_t max_size, unsigned int seed) {
  Rng rng(seed + 1);
  if (Below(rng, 2) == 0 ||
      !message.ParseFromArray(data, static_cast<int>(size))) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  for (size_t n = Below(rng, 3); n < 3; ++n) Change(rng, message);
  const std::string bytes = message.SerializePartialAsString();
  if (bytes.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(data, bytes.data(), bytes.size());
  return bytes.size();
}

}  // namespace sluice::testing
