// model.mjs: does a JSON value fit one of the client's model classes?
//
// The classes copy what they know and ignore the rest, so reading alone proves little. This compares what was read with
// what was sent: no member that the class does not know, none missing that its constructor asks for, each of its type,
// and each value among those that the class lists.

const scalar = { string: String, number: Number, boolean: Boolean }

// Names of the constructor's arguments: the members that must be there.
const required = Class => (/constructor\s*\(([^)]*)\)/.exec(Class.toString())?.[1] ?? '').split(',').map(name => name.trim()).filter(Boolean)

const isModel = value => value !== null && typeof value === 'object' && typeof value.constructor.constructFromObject === 'function'

function * compareMember (read, raw, allowed, path) {
  if (raw === null) {
    yield `${path}: is null`
  } else if (Array.isArray(raw)) {
    if (!Array.isArray(read)) yield `${path}: is a list`
    else for (let i = 0; i < raw.length; i++) yield * compareMember(read[i], raw[i], allowed, `${path}[${i}]`)
  } else if (isModel(read)) {
    yield * compareModel(read, raw, path)
  } else if (read instanceof Date) {
    if (typeof raw !== 'string' || Number.isNaN(read.getTime())) yield `${path}: ${JSON.stringify(raw)} is no time`
  } else if (typeof raw in scalar && typeof read !== typeof raw) {
    yield `${path}: ${JSON.stringify(raw)} should be a ${typeof read}`
  } else if (allowed && !Object.values(allowed).includes(raw)) {
    yield `${path}: ${JSON.stringify(raw)} is none of ${Object.values(allowed).join(', ')}`
  }
}

function * compareModel (read, raw, path) {
  const Class = read.constructor
  if (raw === null || typeof raw !== 'object' || Array.isArray(raw)) {
    yield `${path}: should be a ${Class.name}`
    return
  }
  for (const name of required(Class)) {
    if (raw[name] === undefined) yield `${path}: a ${Class.name} needs ${name}`
  }
  for (const name of Object.keys(raw)) {
    const allowed = Class[name[0].toUpperCase() + name.slice(1) + 'Enum']
    if (!(name in Class.prototype)) yield `${path}: a ${Class.name} has no ${name}`
    else yield * compareMember(read[name], raw[name], allowed, `${path}.${name}`)
  }
}

// What is wrong with a JSON value as this class, as a list of sentences.
export function misfits (Class, raw) {
  return [...compareModel(Class.constructFromObject(raw, new Class()), raw, Class.name)]
}
