# What Puppet reads of settings files, and what it writes into them; what its HOCON library reads of
# Puppet Server's. JSON in, JSON out.
require "hocon"
require "json"
require "puppet"
require "tempfile"

def read(text)
  file = Puppet::Settings::ConfigFile.new(Puppet::Settings::ValueTranslator.new)
  file.parse_file("x", text).sections.transform_values do |section|
    section.settings.to_h { |setting| [setting.name, setting.value.to_s] }
  end
rescue StandardError
  nil
end

def written(text, section, key, value)
  Tempfile.create("edits") do |file|
    File.binwrite(file.path, text)
    File.open(file.path, "r+:UTF-8") do |open|
      Puppet::Settings::IniFile.update(open) { |config| config.set(section, key, value) }
    end
    File.read(file.path, encoding: "UTF-8")
  end
end

# Numbers and booleans as they are written: what a program makes of them is its own affair.
def texts(value)
  case value
  when Hash then value.transform_values { |inner| texts(inner) }
  when Array then value.map { |inner| texts(inner) }
  when nil then nil
  else value.to_s
  end
end

def hocon(text)
  texts(Hocon.parse(text))
rescue StandardError
  nil
end

asked = JSON.parse($stdin.read)
ini = asked["ini"].map do |before, after, section, key, value|
  { before: read(before), after: read(after), puppets: read(written(before, section, key, value)) }
end
hocons = asked["hocon"].map { |before, after| { before: hocon(before), after: hocon(after) } }
puts(JSON.generate({ ini: ini, hocon: hocons }))
