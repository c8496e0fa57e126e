# What Puppet reads of settings files, and what it writes into them; JSON in, JSON out.
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

cases = JSON.parse($stdin.read)
puts(JSON.generate(cases.map do |before, after, section, key, value|
  { before: read(before), after: read(after), puppets: read(written(before, section, key, value)) }
end))
